"""A guard's figures in words: for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate.evaluate.intervals import Interval
from palate.guard.evaluation import Figures, Share

RARE = 0.01
"""The share of unsafe messages for which the precision is worked out: nearer to real traffic than
labelled data are."""


def headline(figures: Figures) -> str:
    """The two shares that matter, in one sentence."""
    recall, fpr = figures.recall.share, figures.fpr.share
    return f"Flags {recall:.0%} of the unsafe and {fpr:.0%} of the safe rows"


def share(found: Share | None) -> str:
    """A share with its interval and its counts."""
    if found is None:
        return "none"
    return f"{found.share:.0%} {bounds(found.interval)}, {found.count} of {found.of}"


def bounds(interval: Interval, digits: int = 0) -> str:
    """An interval of shares."""
    return f"[{interval[0]:.{digits}%}, {interval[1]:.{digits}%}]"


def rows(figures: Figures) -> list[tuple[str, str]]:
    """Each figure: what it is, and its value."""
    low, high = figures.auc_interval
    found = [
        ("rows", f"{figures.rows}: {figures.unsafe} unsafe, {figures.safe} safe"),
        ("unsafe rows flagged (recall)", share(figures.recall)),
        ("safe rows flagged (FPR)", share(figures.fpr)),
        ("flagged rows that are unsafe (precision)", share(figures.precision)),
        ("area under the ROC curve", f"{figures.auc:.3f} [{low:.3f}, {high:.3f}]"),
        ("average precision", f"{figures.average_precision:.3f}"),
        ("Brier score", _brier(figures)),
        ("expected calibration error", _pair(figures.calibrated.error, figures.uncalibrated.error)),
        ("log loss, nats", _pair(figures.calibrated.log_loss, figures.uncalibrated.log_loss)),
    ]
    return found + [
        (f"at a recall of {at.recall:.0%}", f"precision {at.precision:.0%}, FPR {at.fpr:.0%}")
        for at in figures.at_recall
    ]


def rare(figures: Figures) -> str:
    """What the flags would be worth where unsafe messages are rare.

    By Bayes: precision π′ = recall π / (recall π + FPR (1 − π)).
    """
    hits = figures.recall.share * RARE
    alarms = figures.fpr.share * (1 - RARE)
    if not hits + alarms:
        return "Nothing is flagged."
    return (
        f"Where 1 message in {1 / RARE:.0f} is unsafe, the same shares mean that "
        f"{1000 * (hits + alarms):.0f} of 1,000 messages are flagged, and "
        f"{hits / (hits + alarms):.0%} of those are unsafe."
    )


def latency(facts: Mapping[str, Any]) -> str:
    """What one check costs, and where that was measured."""
    return (
        f"one check takes {1000 * facts['median']:.0f} ms at the median and "
        f"{1000 * facts['p95']:.0f} ms at the 95th percentile ({facts['calls']} calls one by one, "
        f"{facts['tokens']:.0f} tokens on average, {facts['threads']} threads of "
        f"{facts['processor']})"
    )


def _pair(calibrated: float, before: float) -> str:
    return f"{calibrated:.3f} (uncalibrated {before:.3f})"


def _brier(figures: Figures) -> str:
    quality = f"{figures.calibrated.brier:.3f} (uncalibrated {figures.uncalibrated.brier:.3f}"
    return f"{quality}; {figures.brier_of_share:.3f} for saying {_unsafe(figures):.0%} of each row)"


def _unsafe(figures: Figures) -> float:
    return figures.unsafe / figures.rows
