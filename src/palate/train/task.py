"""What the training loop is given, and how the outside follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from palate.config import OptimConfig, TrainConfig
from palate.losses.batch import State
from palate.losses.method import Method
from palate.model.policy import Policy
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler
from palate.train.budget import Budget
from palate.train.heldout import Measured
from palate.train.moving import MovingReference
from palate.train.parallel import ALONE, Ranks
from palate.train.shapes import MicroBatch, ReferenceLookup
from palate.train.step import Packed


class Interrupted(Exception):
    """The run was asked to stop; what there is to keep was saved first.

    `step` is the step it stopped after, None outside the training loop.
    """

    def __init__(self, step: int | None, folder: Path) -> None:
        where = "outside training" if step is None else f"after step {step}"
        super().__init__(f"stopped {where}")
        self.step = step
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Split:
    """Rendered examples and their reference's log-probs."""

    examples: Sequence[Rendered]
    reference: ReferenceLookup | None


@dataclass(frozen=True, slots=True)
class Mismatches:
    """Prompts with other prompts' completions, row by row as in the data: by epoch, held out."""

    train: Sequence[Split]
    heldout: Split


@dataclass(frozen=True, slots=True)
class Ready:
    """The micro-batches of one optimizer step, at the budget that held when they were built.

    `rows` are those of `split`; `over` are the micro-batches of the step statistic, where it is
    of others. `epoch` is how many times the data will have been seen after it, and `line` is
    told before it: how the rollout that it begins went.
    """

    split: Split
    rows: Sequence[int]
    tokens: int
    batches: Sequence[MicroBatch]
    epoch: float
    over: Packed | None = None
    line: Mapping[str, Any] | None = None


class SourceStopped(ValueError):
    """No further step can be made, as where a judge is down; what there is has been saved."""


class Source(Protocol):
    """Where the steps come from: given data, or rollouts of the policy as it is then."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        ...

    def steps(self, numbers: range) -> Iterator[tuple[int, Ready]]:
        """Each step, counted from 0, when it is asked for; may raise `SourceStopped`."""
        ...

    def measure(self, state: State) -> Measured | None:
        """A measurement on the held-out examples; None where there are none."""
        ...

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint after the last step that was asked for must hold, as JSON too."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        """Go on from what `save` gave."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclass(slots=True)
class Watcher:
    """How the outside follows and stops a run. All callbacks are cheap and optional."""

    on_step: Callable[[int, int, dict[str, float]], None] = lambda step, total, means: None
    on_heldout: Callable[[int, dict[str, float]], None] = lambda step, means: None
    on_note: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False
    on_line: Callable[[dict[str, Any]], None] = lambda line: None


@dataclass(frozen=True, slots=True)
class Task:
    """All that training needs, decided before it starts."""

    policy: Policy
    method: Method
    params: Any
    train: Split
    heldout: Split
    optim: OptimConfig
    config: TrainConfig
    lr: float
    seed: int
    folder: Path
    budget: Budget
    ranks: Ranks = ALONE
    mismatches: Mismatches | None = None
    moving: MovingReference | None = None
    source: Source | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def sampler(self) -> Sampler:
        """The order of the training examples."""
        config = self.config
        return Sampler.over(self.train.examples, config.batch_size, self.seed, config.order)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        if self.source is not None:
            return self.source.total_steps
        return self.sampler.total_steps(self.config.epochs, self.config.max_steps)


@dataclass(slots=True)
class Progress:
    """How far a run came, and a measurement on the held-out examples: the last, or the best.

    `best` is the step whose weights the policy has in the end, where that was asked for;
    `stopped` says that it came to its end early.
    """

    steps: int = 0
    heldout: dict[str, float] = field(default_factory=dict)
    best: int | None = None
    stopped: bool = False
