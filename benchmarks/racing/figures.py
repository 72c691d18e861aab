"""From samples to figures: plain arithmetic, without torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .course import Course
from .sample import Entry, Sample


@dataclass(frozen=True, slots=True)
class Figures:
    """One side of a race over all rounds; medians, a whole step with its reference's share.

    `seconds` holds every round's mean step. `computed` and `unique` are tokens a step:
    those that went through the model, and those of the smallest forest of the step's pairs.
    `limit` is F_min / (seconds × matmul peak).
    """

    seconds: tuple[float, ...]
    pairs: int
    computed: float
    unique: float
    peak_bytes: float
    limit: float

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def pairs_per_second(self) -> float:
        """Of the median step."""
        return self.pairs / self.step

    @property
    def unique_per_second(self) -> float:
        """Unique tokens a second: the pairs' own, however often a side computes them."""
        return self.unique / self.step

    @property
    def computed_per_second(self) -> float:
        """Tokens a second that went through the model, padding and repeated prompts too."""
        return self.computed / self.step


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster, the median of the rounds, and the smallest and largest of them.

    `sharing` is tokens they compute over tokens we compute, `engine` what remains of the
    ratio; `memory` is our peak over theirs.
    """

    median: float
    low: float
    high: float
    sharing: float
    engine: float
    memory: float


def step_seconds(sample: Sample, entry: Entry, course: Course) -> float:
    """Mean seconds of a whole step after the warm-up, its share of the reference included.

    A reference that is computed before training is computed once for each pair, and an epoch
    trains on each pair once: a step carries the reference of its own pairs. Where only a
    part of an even step was timed, everything before the optimizer is scaled up.
    """
    timed = slice(entry.warm_up, None)
    share = 1.0 if entry.pairs is None else course.pairs_per_step / entry.pairs
    whole = sample.seconds[timed]
    after = sample.optimizer_seconds[timed] or [0.0] * len(whole)
    if entry.pairs is not None:
        whole = [(a - b) * share + b for a, b in zip(whole, after, strict=True)]
    reference = 0.0
    if sample.reference_pairs:
        reference = sample.reference_seconds / sample.reference_pairs * course.pairs_per_step
    return statistics.fmean(whole) + reference


def figures(
    samples: Sequence[Sample], entry: Entry, course: Course, ours: Sequence[Sample]
) -> Figures:
    """Figures of one side; unique tokens, least operations and the peak come from ours."""
    timed = slice(entry.warm_up, None)
    share = 1.0 if entry.pairs is None else course.pairs_per_step / entry.pairs
    seconds = tuple(step_seconds(sample, entry, course) for sample in samples)
    one = ours[0]
    least = statistics.fmean(one.flops[timed])
    least += one.reference_flops / one.reference_pairs * course.pairs_per_step
    peak = statistics.median(sample.matmul_peak for sample in ours)
    return Figures(
        seconds=seconds,
        pairs=course.pairs_per_step,
        computed=statistics.fmean(samples[0].computed[timed]) * share,
        unique=statistics.fmean(one.unique[timed]),
        peak_bytes=statistics.median(sample.peak_bytes for sample in samples),
        limit=least / (statistics.median(seconds) * peak),
    )


def ratio(ours: Figures, theirs: Figures) -> Ratio:
    """Rounds are compared one to one: both processes of a round ran one after the other."""
    rounds = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    median, sharing = statistics.median(rounds), theirs.computed / ours.computed
    return Ratio(
        median=median,
        low=min(rounds),
        high=max(rounds),
        sharing=sharing,
        engine=median / sharing,
        memory=ours.peak_bytes / theirs.peak_bytes,
    )
