"""From lessons to what the loss reads beside its log-probs: passes over them, and credit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.generate.trust import mismatch
from palate.losses.batch import State
from palate.losses.credit import Scored
from palate.losses.method import Method
from palate.model.policy import Policy
from palate.model.score import score, score_with_values, supervised_tokens
from palate.rollout.learning import with_columns
from palate.rollout.reference import IterateReference
from palate.rollout.rows import Lesson
from palate.tokens.render import Rendered


@dataclass(frozen=True, slots=True)
class Credited:
    """Lessons with their columns, the reference's log-probs by lesson, state, and means."""

    lessons: list[Lesson]
    reference: list[Tensor] | None
    state: State
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Passes:
    """The trainer's passes without gradient over what was sampled, `budget` tokens at once."""

    policy: Policy
    reference: IterateReference
    method: Method
    params: Any
    budget: int

    def credit(self, lessons: Sequence[Lesson], state: State) -> Credited:
        """What the method reads of the lessons.

        Log-probs are those of the trainer, by the weights that drew the answers: that is what a
        ratio is taken of, and what the sampler's are compared with.
        """
        rendered = [lesson.rendered for lesson in lessons]
        reference = self._reference(rendered) if self.method.reference else None
        if self.method.shape != "sample":
            return Credited(list(lessons), reference, state, {})
        values: list[Tensor] | None = None
        if self.method.head == "value":
            old, values = score_with_values(self.policy, rendered, self.budget)
        else:
            old = score(self.policy, rendered, self.budget)
        scored = _scored(lessons, old, reference, values)
        assert self.method.credit is not None, "a method of samples gives credit"
        found = self.method.credit(scored, self.params, state)
        sizes = [len(one) for one in old]
        columns: dict[str, Sequence[Tensor]] = {
            "old": old,
            "advantage": found.advantage_N.split(sizes),
        }
        if found.return_N is not None:
            columns["return"] = found.return_N.split(sizes)
        if values is not None:
            columns["value"] = values
        metrics = {**found.metrics, **_measures(scored)}
        if all(len(lesson.logps) == size for lesson, size in zip(lessons, sizes, strict=True)):
            columns["sampler"] = [torch.tensor(lesson.logps) for lesson in lessons]
            apart = mismatch(_flat(columns["sampler"]), _flat(old))
            metrics |= {"mismatch": apart.mean, "max_mismatch": apart.worst}
        done = [
            with_columns(lesson, {name: by_row[i].clone() for name, by_row in columns.items()})
            for i, lesson in enumerate(lessons)
        ]
        return Credited(done, reference, found.state, metrics)

    def _reference(self, rendered: Sequence[Rendered]) -> list[Tensor]:
        with self.reference.switched():
            return score(self.reference.policy, rendered, self.budget)


def _measures(scored: Scored) -> dict[str, float]:
    """`kl`: mean Σ log π/π_ref of an answer, in nats; `surprise`: mean −log π a token."""
    found = {"surprise": float(-scored.old_N.mean())}
    if scored.ref_N is not None:
        found["kl"] = float(scored.sums_B(scored.ratio_N).mean())
    return found


def _flat(by_row: Sequence[Tensor]) -> np.ndarray:
    values: np.ndarray = torch.cat(list(by_row)).numpy()
    return values


def _scored(
    lessons: Sequence[Lesson],
    old: Sequence[Tensor],
    reference: Sequence[Tensor] | None,
    values: Sequence[Tensor] | None,
) -> Scored:
    lengths = torch.tensor([supervised_tokens(lesson.rendered) for lesson in lessons])
    groups: dict[int, int] = {}
    numbers = [groups.setdefault(lesson.row, len(groups)) for lesson in lessons]
    rewards = [lesson.rendered.told["reward"] for lesson in lessons]
    return Scored(
        reward_B=torch.tensor(rewards, dtype=torch.float64),
        group_B=torch.tensor(numbers),
        length_B=lengths,
        branches_N=torch.arange(len(lessons)).repeat_interleave(lengths),
        old_N=torch.cat(list(old)).double(),
        ref_N=None if reference is None else torch.cat(list(reference)).double(),
        value_N=None if values is None else torch.cat(list(values)).double(),
    )
