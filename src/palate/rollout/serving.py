"""A server that samples for the run, with the policy's adapter pushed to it before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from palate.config import ConfigError, RunConfig
from palate.generate.sampling import Sample, Sampling
from palate.generate.server import ServerSampler, ServerSettings
from palate.losses.method import Method
from palate.train.setup import Learner


class Served:
    """Draws the policy's own answers from a server.

    `staleness` is how many versions the oldest answer of the last drawing was behind: 0 unless the
    server went on with older weights.
    """

    def __init__(self, sampler: ServerSampler, learner: Learner, folder: Path) -> None:
        self._sampler, self._learner = sampler, learner
        self._folder = folder / "rollouts" / "adapter"
        self._version = 0
        self.staleness = 0

    def push(self) -> None:
        """Give the server the adapter as it is now; raises `SamplerStopped`."""
        assert self._learner.adapted is not None, "only an adapter is pushed"
        self._learner.adapted.save_pretrained(str(self._folder), safe_serialization=True)
        self._version += 1
        self._sampler.push(self._folder, self._version)

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        end_ids: Sequence[int],
        n: int,
        advance: Callable[[int], None],
    ) -> list[list[Sample]]:
        """`n` answers to each prompt; raises `SamplerStopped`."""
        drawn = self._sampler.sample(prompts, sampling, end_ids=end_ids, n=n, advance=advance)
        self.staleness = max(drawn.staleness(self._version), default=0)
        return drawn.answers

    def close(self) -> None:
        """Close the connections."""
        self._sampler.close()


def served_by(config: RunConfig, folder: Path, learner: Learner, method: Method) -> Served | None:
    """The recipe's sampling server; None where this process samples.

    Raises `ConfigError` where the weights cannot be pushed or the server cannot draw what the
    method needs.
    """
    how, online = config.rollout, method.online
    if how is None or how.server is None:
        return None
    assert online is not None, "the method samples"
    if learner.adapted is None:
        raise ConfigError("rollout.server needs an adapter that can be pushed: adapter.kind=lora")
    if online.against in {"reference", "mixture"}:
        raise ConfigError(
            f"{method.name} samples from the {online.against} too, which rollout.server does not: "
            "leave it out"
        )
    settings = ServerSettings(**how.server.model_dump())
    return Served(ServerSampler(settings), learner, folder)
