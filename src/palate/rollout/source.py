"""Rollouts as a source of the training loop's steps.

A rollout is drawn when its first step is asked for, by the weights as they are then; its lessons
are handed out in passes, and then the next one is drawn. What is drawn is a pure function of
(seed, number of the drawing, weights), so a run that is continued between two rollouts draws the
same answers again; one that is continued within a rollout has them in its checkpoint.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from palate.config import RolloutConfig, TrainConfig
from palate.generate.server import SamplerStopped
from palate.judge.errors import JudgeStopped
from palate.losses.batch import State
from palate.losses.method import Method
from palate.records import Example
from palate.rollout.crediting import Credited, Passes
from palate.rollout.drawing import Drawing
from palate.rollout.judging import Bench
from palate.rollout.learning import lessons, spread
from palate.rollout.prompts import PromptOrder
from palate.rollout.rows import Group, Lesson, pack_lessons, unpack_lessons
from palate.rollout.telling import each_of, line_of, means, write_groups
from palate.tokens.render import Rendered
from palate.train.budget import Budget
from palate.train.heldout import Measured
from palate.train.packing import micro_batches
from palate.train.parallel import ALONE
from palate.train.reference import ReferenceLogps
from palate.train.task import Ready, SourceStopped, Split

# Drawings in a row that may teach nothing, and drawings of a rollout that wants groups with spread.
MOST_DRY, MOST_EXTRA = 10, 10
_HELDOUT = 1 << 32  # number of the drawing that measures: no rollout comes so far
_ORDER = 0x6C657373  # apart from other streams of the seed

Prompt = tuple[Example, Rendered]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a rollout is, and how long the run."""

    prompts: int
    batch: int
    updates: int
    total_steps: int
    fresh: int

    @classmethod
    def of(
        cls,
        config: RolloutConfig,
        method: Method,
        prompts: int,
        train: TrainConfig,
    ) -> Sizes:
        """The recipe's, with the method's defaults. Rollouts that teach less make fewer steps."""
        online = method.online
        assert online is not None, "the method samples"
        updates = online.updates if config.updates is None else config.updates
        fresh = online.fresh if config.fresh_reference is None else config.fresh_reference
        each = config.answers if _one_for_each_answer(method) else 1
        steps = math.ceil(config.prompts * each / train.batch_size) * updates
        total = math.ceil(train.epochs * prompts / config.prompts) * steps
        total = total if train.max_steps is None else min(total, train.max_steps)
        return cls(config.prompts, train.batch_size, updates, total, fresh)


def _one_for_each_answer(method: Method) -> bool:
    assert method.online is not None
    return method.shape == "sample" or method.online.against in {"reference", "demonstration"}


@dataclass(slots=True)
class _Current:
    """The rollout that steps are handed out from; nothing before the first."""

    lessons: list[Lesson]
    reference: list[Tensor] | None
    plan: list[list[int]]
    number: int = -1
    at: int = 0

    @property
    def split(self) -> Split:
        """Its lessons as training data."""
        lookup = None if self.reference is None else ReferenceLogps(self.reference)
        return Split([lesson.rendered for lesson in self.lessons], lookup)


class Rollouts:
    """A `palate.train.task.Source` that draws what it hands out."""

    def __init__(
        self,
        sizes: Sizes,
        prompts: Sequence[Prompt],
        heldout: Sequence[Prompt],
        drawing: Drawing,
        bench: Bench,
        passes: Passes,
        budget: Budget,
        folder: Path,
    ) -> None:
        self.sizes, self.prompts, self.heldout = sizes, prompts, heldout
        self.drawing, self.bench, self.passes = drawing, bench, passes
        self.reference, self.budget, self.folder = drawing.reference, budget, folder
        self.order = PromptOrder(len(prompts), drawing.seed)
        self.current = _Current([], None, [])
        self.taken = self.drawn = 0  # prompts, drawings
        start = drawing.method.credit_state
        self.state: State = start(drawing.params) if start is not None else {}

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        return self.sizes.total_steps

    def steps(self, numbers: range) -> Iterator[tuple[int, Ready]]:
        """Each step's lessons in micro-batches; draws a rollout where the last one is used up."""
        for index in numbers:
            line = None
            if self.current.at >= len(self.current.plan):
                line = self._next_rollout(index + 1)
            current, policy = self.current, self.drawing.policy
            rows, tokens = current.plan[current.at], self.budget.at(index)
            split = current.split
            batches = micro_batches(policy, ALONE, split, rows, tokens)
            current.at += 1
            epoch = self.taken / self.order.count
            yield index, Ready(split, rows, tokens, batches, epoch, line=line)

    def _next_rollout(self, step: int) -> dict[str, Any]:
        """Draw, judge, give credit; returns the line of metrics. Changes nothing if it fails."""
        begun, number = time.perf_counter(), self.current.number + 1
        fresh = self.sizes.fresh
        if fresh and number > 0 and number % fresh == 0:
            self.reference.refresh()
        try:
            groups, found, left, taken, drawn = self._taught()
        except JudgeStopped as error:
            raise SourceStopped(f"the judge stopped in step {step}: {error}") from error
        except SamplerStopped as error:
            raise SourceStopped(f"the sampler stopped in step {step}: {error}") from error
        credited: Credited = self.passes.credit(found, self.state)
        line = line_of(number, groups, len(found), left, credited.metrics)
        if self.drawing.served is not None:
            line["staleness"] = self.drawing.served.staleness
        write_groups(self.folder, step, groups)
        plan = self._plan(credited.lessons, number)
        self.current = _Current(credited.lessons, credited.reference, plan, number)
        self.state, self.taken, self.drawn = credited.state, taken, drawn
        return {**line, "seconds": time.perf_counter() - begun}

    def _taught(self) -> tuple[list[Group], list[Lesson], Counter[str], int, int]:
        """Groups of a rollout and what they teach, and how far prompts and drawings were used.

        Where nothing is learned from a rollout, the next prompts are drawn; a method with dynamic
        sampling draws on until as many groups have spread as a rollout has.
        """
        online, config = self.drawing.method.online, self.drawing.config
        assert online is not None, "the method samples"
        taken, drawn = self.taken, self.drawn
        kept: list[Group] = []
        told: list[Group] = []
        left: Counter[str] = Counter()
        for _ in range(MOST_DRY if not online.dynamic else MOST_EXTRA):
            missing = self.sizes.prompts - (len(kept) if online.dynamic else 0)
            rows = self.order.take(taken, missing)
            groups = self.drawing.groups(rows, [self.prompts[row] for row in rows], drawn)
            taken, drawn = taken + len(rows), drawn + 1
            self.bench.judge(groups)
            _refuse_silence(groups, self.bench)
            told += groups
            if online.dynamic:
                left["flat groups"] += sum(not spread(group) for group in groups)
                kept += [group for group in groups if spread(group)]
                if len(kept) < self.sizes.prompts:
                    continue
            else:
                kept = groups
            found, reasons = lessons(kept, self.drawing.method, config)
            left += reasons
            if found:
                return told, found, left, taken, drawn
        if kept and online.dynamic:
            found, reasons = lessons(kept, self.drawing.method, config)
            if found:
                return told, found, left + reasons, taken, drawn
        raise SourceStopped(_nothing_learned(told, left))

    def _plan(self, found: Sequence[Lesson], number: int) -> list[list[int]]:
        """Rows of each step: in every pass the groups in a new order, cut into equal parts."""
        by_group: dict[int, list[int]] = {}
        for place, lesson in enumerate(found):
            by_group.setdefault(lesson.row, []).append(place)
        groups = list(by_group.values())
        steps = math.ceil(len(found) / self.sizes.batch)
        plan: list[list[int]] = []
        for update in range(self.sizes.updates):
            draw = np.random.default_rng([_ORDER, self.drawing.seed, number, update])
            rows = [place for g in draw.permutation(len(groups)) for place in groups[g]]
            plan += [part.tolist() for part in np.array_split(np.array(rows), steps)]
        return plan

    def measure(self, state: State) -> Measured | None:
        """One answer to each held-out prompt: its reward, or how often it beats the reference's."""
        judged = self.bench.scorer is not None or self.bench.pair_judge is not None
        if not self.heldout or not judged:
            return None
        try:
            groups = self.drawing.measured(self.heldout, _HELDOUT, self.bench.scorer is None)
            self.bench.judge_alone(groups)
        except JudgeStopped as error:
            raise SourceStopped(f"the judge stopped at a measurement: {error}") from error
        except SamplerStopped as error:
            raise SourceStopped(f"the sampler stopped at a measurement: {error}") from error
        own = [one for group in groups for one in group.own]
        return Measured(len(groups), means(own), each_of(groups))

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The rollout at hand, unless it is used up, and everything that the next depends on."""
        tensors = {f"credit/{name}": value for name, value in self.state.items()}
        tensors |= {f"iterate/{name}": value for name, value in self.reference.state().items()}
        current = self.current
        words: list[dict[str, Any]] = []
        if current.at < len(current.plan):
            packed, words = pack_lessons(current.lessons, current.reference)
            tensors |= {f"lessons/{name}": value for name, value in packed.items()}
        counts = {"taken": self.taken, "drawn": self.drawn}
        place = {"number": current.number, "at": current.at}
        return tensors, {**counts, **place, "lessons": words}

    def close(self) -> None:
        """Leave the server that samples, if there is one."""
        if self.drawing.served is not None:
            self.drawing.served.close()

    def restore(self, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        """Go on from what `save` gave; an empty mapping is the beginning."""
        if not words:
            return
        self.state = _below("credit/", tensors)
        self.reference.restore(_below("iterate/", tensors))
        self.taken, self.drawn = words["taken"], words["drawn"]
        found, reference = unpack_lessons(_below("lessons/", tensors), words["lessons"])
        plan = self._plan(found, words["number"]) if found else []
        at = words["at"] if found else 0
        self.current = _Current(found, reference, plan, words["number"], at)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _refuse_silence(groups: Sequence[Group], bench: Bench) -> None:
    """Raise `SourceStopped` where the judge failed on every single answer."""
    if bench.scorer is None and bench.pair_judge is None:
        return
    own = [one for group in groups for one in group.own]
    if all(one.failure is not None for one in own):
        raise SourceStopped(
            f"the judge gave no verdict on any of {len(own)} answers (the last: {own[-1].failure})"
        )


def _nothing_learned(groups: Sequence[Group], left: Counter[str]) -> str:
    rewards = {one.reward for group in groups for one in group.own if one.reward is not None}
    why = ", ".join(f"{reason} {count}" for reason, count in left.most_common()) or "no lesson"
    same = f"; all answers earned {next(iter(rewards)):g}" if len(rewards) == 1 else ""
    return (
        f"{len(groups)} prompts in a row taught nothing ({why}{same}): let the judge tell answers "
        "apart, raise rollout.answers or rollout.temperature, or take easier prompts"
    )
