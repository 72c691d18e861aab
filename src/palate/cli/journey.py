"""One example of a run: where it is, what it becomes, and when it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.cli.runs import run_config, run_folder
from palate.config import ConfigError, RunConfig
from palate.records import Example

if TYPE_CHECKING:
    from palate.losses.method import Method
    from palate.store.snapshot import Snapshot
    from palate.tokens.render import Rendered, Renderer
    from palate.train.folder import Plan


@dataclass(frozen=True, slots=True)
class Draw:
    """One time the example is drawn: step and micro-batch count from 1, `rows` share the latter."""

    step: int
    micro: int
    of: int
    rows: tuple[int, ...]


class Journey:
    """One example of a run, and everything that happens to it."""

    def __init__(self, folder: Path, wanted: str) -> None:
        from palate.losses.registry import method_of
        from palate.store.snapshot import read_snapshot
        from palate.train.folder import read_plan

        self.folder = folder = run_folder(folder)
        self.config: RunConfig = run_config(folder)
        self.method: Method
        self.method, self.params = method_of(self.config)
        if self.method.shape == "text":
            raise ConfigError(f"{folder} learnt from plain text, which has no examples to trace")
        self.data: Snapshot = read_snapshot(folder / "snapshot")
        plan = read_plan(folder)
        if plan is None:
            raise ConfigError(f"the run {folder} stopped before it had a plan: start it again")
        self.plan: Plan = plan
        self.side, self.index = find_example(self.data, wanted)

    @property
    def part(self) -> list[Example]:
        """The side of the split that the example is on."""
        return self.data.train if self.side == "train" else self.data.heldout

    @property
    def example(self) -> Example:
        """The example as the snapshot holds it."""
        return self.part[self.index]

    @property
    def branch_names(self) -> list[str]:
        """What the branches are called, in their order."""
        return {"pair": ["chosen", "rejected"], "prompt": ["prompt"]}.get(
            self.method.data, ["answer"]
        )

    @property
    def share(self) -> bool:
        """Whether shared beginnings are computed once in this run."""
        return self.plan.layout == "tree"

    @cached_property
    def renderer(self) -> Renderer:
        """The run's renderer: the tokenizer without the weights."""
        from palate.train.setup import renderer_without_weights

        return renderer_without_weights(self.config)

    @cached_property
    def all_rendered(self) -> Rendering:
        """The examples of this side as tokens, each rendered when it is asked for."""
        return Rendering(self.part, self.renderer, self.method.data)

    @property
    def rendered(self) -> Rendered:
        """The example as tokens."""
        found: Rendered = self.all_rendered[self.index]
        return found

    @cached_property
    def draws(self) -> list[Draw]:
        """Where the training split's sampler and the cut put the example."""
        from palate.tokens.sampler import Sampler, cut

        if self.method.online or self.side != "train" or self.plan.tokens_per_microbatch is None:
            return []
        train = self.config.train
        sampler = Sampler.over(self.data.train, train.batch_size, self.config.seed, train.order)
        found = []
        for step in range(sampler.total_steps(train.epochs, train.max_steps)):
            rows = sampler.batch(step)
            if self.index not in rows:
                continue
            budget = self.plan.budget_at(step)
            cuts = cut(self.all_rendered, rows, budget, share=self.share)
            at = next(i for i, part in enumerate(cuts) if self.index in part)
            found.append(Draw(step + 1, at + 1, len(cuts), tuple(cuts[at])))
        return found


class Rendering(Sequence["Rendered"]):
    """Examples as tokens, rendered on first use: a trace needs one step's, not all."""

    def __init__(self, examples: Sequence[Example], renderer: Renderer, shape: str) -> None:
        self._examples, self._renderer, self._shape = examples, renderer, shape
        self._done: dict[int, Rendered] = {}

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        if index not in self._done:
            (self._done[index],) = self._renderer.render_as(self._examples[index], self._shape)
        return self._done[index]


def find_example(data: Snapshot, wanted: str) -> tuple[str, int]:
    """(side, index) of an id, its beginning, or `train:N` and `heldout:N` counted from 0.

    Raises `ValueError` with a few ids for one that is not there or is not the only one.
    """
    sides = {"train": data.train, "heldout": data.heldout}
    side, colon, number = wanted.partition(":")
    if colon and side in sides:
        size = len(sides[side])
        if not number.isdecimal() or int(number) >= size:
            valid = f"{side}:0 to {side}:{size - 1}" if size else f"{side} is empty"
            raise ValueError(f"there is no example '{wanted}': {valid}")
        return side, int(number)
    ids = [(name, i, e.id) for name, part in sides.items() for i, e in enumerate(part)]
    matches = [(name, i, key) for name, i, key in ids if wanted and key.startswith(wanted)]
    if len(matches) == 1:
        return matches[0][:2]
    few = ", ".join(key for _, _, key in (matches or ids)[:4])
    if matches:
        raise ValueError(f"{len(matches)} examples begin with '{wanted}': {few}, …")
    raise ValueError(f"no example is called '{wanted}'; there is: {few}, …, train:0, heldout:0")
