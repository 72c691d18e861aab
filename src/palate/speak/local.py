"""A model on this machine that is asked in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.generate.opening import open_policy
from palate.generate.sampling import Sample, Sampling, most_positions, sample
from palate.model.policy import Policy
from palate.records import Message
from palate.speak.speaker import Manner, Reply
from palate.tokens.render import Renderer, Unusable

__all__ = ["LocalSpeaker", "open_local", "open_policy"]


class LocalSpeaker:
    """Samples answers from a policy, many conversations at once.

    A conversation that leaves no room for the answer fails under ``prompt-too-long``, one in which
    a control token of the model's is typed out under ``special-token``.
    """

    def __init__(self, policy: Policy, renderer: Renderer, name: str, batch_size: int = 64) -> None:
        self.policy, self.renderer, self.name = policy, renderer, name
        self.batch_size = batch_size
        self.limit = most_positions(policy)

    def ask(self, conversations: Sequence[Sequence[Message]], manner: Manner) -> list[Reply]:
        """One reply each; answer i has its own stream of draws, by the seed and i."""
        prompts = [self._prompt(turns, manner) for turns in conversations]
        usable = [prompt for prompt in prompts if not isinstance(prompt, Reply)]
        sampling = Sampling(
            max_new_tokens=manner.max_new_tokens,
            temperature=manner.temperature,
            top_k=manner.top_k,
            seed=manner.seed,
        )
        drawn = sample(
            self.policy,
            usable,
            sampling,
            end_ids=tuple(self.renderer.end_ids),
            batch_size=self.batch_size,
        )
        said = iter(drawn)
        return [
            prompt if isinstance(prompt, Reply) else self._reply(next(said)[0])
            for prompt in prompts
        ]

    def _prompt(self, turns: Sequence[Message], manner: Manner) -> list[int] | Reply:
        if any(token in turn.content for token in self.renderer.special for turn in turns):
            return Reply("", finished=False, failure="special-token")
        try:
            ids = self.renderer.prompt(turns)
        except Unusable as error:
            return Reply("", finished=False, failure=error.reason)
        if len(ids) + manner.max_new_tokens > self.limit:
            return Reply("", finished=False, failure="prompt-too-long")
        return ids

    def _reply(self, one: Sample) -> Reply:
        return Reply(self.renderer.text(one.ids), one.finished)


def open_local(
    place: str,
    *,
    template: Any = "auto",
    trust_remote_code: bool = False,
    name: str | None = None,
    probed: bool = False,
) -> LocalSpeaker:
    """Load a folder, hub id, GGUF file or known name; raises `ValueError` with the cure.

    `probed` as for `open_policy`: its model is to score as well.
    """
    policy, renderer = open_policy(place, template, trust_remote_code, probed=probed)
    return LocalSpeaker(policy, renderer, name or place)
