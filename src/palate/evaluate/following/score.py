"""Scores of a set of answers: how many prompts and how many instructions are followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.evaluate.following.instruction import loosened
from palate.evaluate.following.prompts import InstructedPrompt
from palate.evaluate.intervals import bootstrap_sums, percentile_interval, wilson
from palate.evaluate.shares import ENOUGH, RESAMPLES


@dataclass(frozen=True, slots=True)
class Share:
    """`followed` of `of`, with a 95 % interval of the share."""

    followed: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.followed / self.of


@dataclass(frozen=True, slots=True)
class PromptScore:
    """Which of a prompt's instructions its answer follows, in order: strict, and loose."""

    key: str
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class KindScore:
    """The instructions of one kind."""

    kind: str
    strict: Share
    loose: Share


@dataclass(frozen=True, slots=True)
class FollowingScore:
    """IFEval's four figures, and what they are made of.

    A prompt is followed if all its instructions are. `kinds` are in alphabetical order.
    """

    prompt_strict: Share
    prompt_loose: Share
    instruction_strict: Share
    instruction_loose: Share
    kinds: tuple[KindScore, ...]
    prompts: tuple[PromptScore, ...]


def score(
    rows: Sequence[InstructedPrompt], answers: Sequence[str], seed: int = 0
) -> FollowingScore:
    """Check `answers[i]`, the answer to `rows[i]`, for every instruction of the prompt.

    Strict takes the answer as it is; loose is content with one of its eight readings
    (`loosened`), as in Zhou et al. 2023, section 2.2. Intervals: Wilson's where each prompt has
    one trial; otherwise prompts are resampled whole (`seed`), or, where too few prompts had
    a pass or a failure for that, Wilson's as if each prompt were one trial.

    Raises `ValueError` unless there is one answer for each row, and a row.
    """
    if len(rows) != len(answers) or not rows:
        raise ValueError(f"{len(answers)} answers to {len(rows)} prompts; it takes one for each")
    prompts = tuple(_one(row, answer) for row, answer in zip(rows, answers, strict=True))
    kinds = sorted({asked.kind for row in rows for asked in row.instructions})
    strict, loose = [p.strict for p in prompts], [p.loose for p in prompts]

    def of_kind(kind: str, passed: Sequence[Sequence[bool]]) -> Share:
        groups = [
            [ok for asked, ok in zip(row.instructions, oks, strict=True) if asked.kind == kind]
            for row, oks in zip(rows, passed, strict=True)
        ]
        return _share([group for group in groups if group], seed)

    return FollowingScore(
        _share([[all(oks)] for oks in strict], seed),
        _share([[all(oks)] for oks in loose], seed),
        _share(strict, seed),
        _share(loose, seed),
        tuple(KindScore(kind, of_kind(kind, strict), of_kind(kind, loose)) for kind in kinds),
        prompts,
    )


def _one(row: InstructedPrompt, answer: str) -> PromptScore:
    readings = loosened(answer)
    return PromptScore(
        row.key,
        tuple(asked.follows(row.prompt, answer) for asked in row.instructions),
        tuple(
            any(asked.follows(row.prompt, reading) for reading in readings)
            for asked in row.instructions
        ),
    )


def _share(groups: Sequence[Sequence[bool]], seed: int) -> Share:
    """Of trials in groups, one group for each prompt."""
    followed, trials, prompts = sum(map(sum, groups)), sum(map(len, groups)), len(groups)
    passes = sum(any(group) for group in groups)
    failures = sum(not all(group) for group in groups)
    if trials == prompts:
        low, high = wilson(followed, trials)
    elif min(passes, failures) < ENOUGH:
        low, high = wilson(followed / trials * prompts, prompts)
    else:
        counts_GC = np.array([(sum(group), len(group)) for group in groups], dtype=float)
        sums_RC = bootstrap_sums(counts_GC, seed, RESAMPLES)
        low, high = percentile_interval(sums_RC[:, 0] / sums_RC[:, 1], prompts)
    return Share(followed, trials, low, high)
