"""What is said of a guard: areas, shares at its threshold, calibration, slices, latency."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from palate.evaluate.intervals import Interval, wilson
from palate.guard.calibration import (
    Bin,
    brier,
    calibration_error,
    log_loss,
    reliability,
    sigmoid,
)
from palate.guard.check import kind_of
from palate.guard.heldout import Judged
from palate.guard.metrics import (
    Bools,
    Floats,
    auc,
    auc_interval,
    average_precision,
    curve,
    fpr_at,
    precision_at,
)
from palate.machine import processor_name
from palate.records import Example

RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99)
_CURVE = 200  # points of the ROC that are kept
_VALUES = 30  # of a tag that makes slices; and so many rows each, on average
_ROWS_A_VALUE = 3


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with the 95 % interval."""

    count: int
    of: int
    share: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class AtRecall:
    """What the highest threshold with at least this recall would give."""

    recall: float
    precision: float
    fpr: float


@dataclass(frozen=True, slots=True)
class Slice:
    """The shares of the rows that have this value of this tag."""

    tag: str
    value: str
    recall: Share | None
    fpr: Share | None


@dataclass(frozen=True, slots=True)
class Quality:
    """How well probabilities are calibrated: Brier score, nats, expected calibration error."""

    brier: float
    log_loss: float
    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one check, made by itself, on this machine."""

    calls: int
    median: float
    p95: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is measured on labelled rows.

    `brier_of_share` is the Brier score of one who always says the share of unsafe rows.
    """

    rows: int
    unsafe: int
    safe: int
    auc: float
    auc_interval: Interval
    average_precision: float
    at_recall: tuple[AtRecall, ...]
    recall: Share
    fpr: Share
    precision: Share | None
    calibrated: Quality
    uncalibrated: Quality
    brier_of_share: float
    slices: tuple[Slice, ...]
    roc: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)


def measure(judged: Judged, examples: Sequence[Example]) -> Figures:
    """The figures of rows that have been judged; `ValueError` where one class has no row."""
    found = curve(judged.scores_N, judged.unsafe_N)
    area = auc(found)
    flagged_N, unsafe_N = judged.flagged_N, judged.unsafe_N
    share = found.unsafe / len(unsafe_N)
    return Figures(
        rows=len(unsafe_N),
        unsafe=found.unsafe,
        safe=found.safe,
        auc=area,
        auc_interval=auc_interval(area, found.unsafe, found.safe),
        average_precision=average_precision(found),
        at_recall=tuple(AtRecall(r, precision_at(found, r), fpr_at(found, r)) for r in RECALLS),
        recall=_needed(flagged_N[unsafe_N]),
        fpr=_needed(flagged_N[~unsafe_N]),
        precision=_share(unsafe_N[flagged_N]),
        calibrated=_quality(judged.log_odds_N, unsafe_N),
        uncalibrated=_quality(judged.scores_N, unsafe_N),
        brier_of_share=share * (1 - share),
        slices=tuple(_slices(judged, examples)),
        roc=_roc(found.fpr_T, found.recall_T),
    )


def measure_latency(
    check: Callable[[Example], object],
    examples: Sequence[Example],
    tokens: Sequence[int],
    calls: int = 60,
) -> Latency:
    """Time one check after another, over rows spread evenly over the examples.

    The first three, which warm up, are made twice and count once.
    """
    stride = max(1, len(examples) // calls)
    chosen = range(0, len(examples), stride)[:calls]
    for row in chosen[:3]:
        check(examples[row])
    seconds = []
    for row in chosen:
        began = time.perf_counter()
        check(examples[row])
        seconds.append(time.perf_counter() - began)
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    return Latency(
        len(seconds), float(median), float(p95), float(np.mean([tokens[row] for row in chosen]))
    )


def latency_facts(latency: Latency) -> dict[str, Any]:
    """The latency, and what it was measured on."""
    return {
        "calls": latency.calls,
        "median": latency.median,
        "p95": latency.p95,
        "tokens": latency.tokens,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
    }


def _quality(log_odds_N: Floats, unsafe_N: Bools) -> Quality:
    p_N = sigmoid(log_odds_N)
    bins = reliability(p_N, unsafe_N)
    return Quality(
        brier(p_N, unsafe_N), log_loss(log_odds_N, unsafe_N), calibration_error(bins), tuple(bins)
    )


def _share(hits_N: Bools) -> Share | None:
    if not len(hits_N):
        return None
    count, of = int(hits_N.sum()), len(hits_N)
    return Share(count, of, count / of, wilson(count, of))


def _needed(hits_N: Bools) -> Share:
    found = _share(hits_N)
    assert found is not None, "the curve has rows of both classes"
    return found


def _slices(judged: Judged, examples: Sequence[Example]) -> list[Slice]:
    """By every tag with few values, and by whether prompts or answers are judged."""
    rows = [{**example.tags, "judged": kind_of(example)} for example in examples]
    out = []
    for tag in sorted({name for row in rows for name in row}):
        values = Counter(row.get(tag, "") for row in rows)
        if not 2 <= len(values) <= min(_VALUES, len(rows) // _ROWS_A_VALUE):
            continue
        for value in sorted(values):
            inside_N = np.array([row.get(tag, "") == value for row in rows])
            flagged_N, unsafe_N = judged.flagged_N[inside_N], judged.unsafe_N[inside_N]
            out.append(Slice(tag, value, _share(flagged_N[unsafe_N]), _share(flagged_N[~unsafe_N])))
    return out


def _roc(fpr_T: Floats, recall_T: Floats) -> tuple[tuple[float, float], ...]:
    """The curve's points from (0, 0) on; of a long one some, its corners' ends among them."""
    points = [(0.0, 0.0), *zip(fpr_T.tolist(), recall_T.tolist(), strict=True)]
    stride = -(-len(points) // _CURVE)
    kept = points[::stride]
    return tuple(kept if kept[-1] == points[-1] else [*kept, points[-1]])
