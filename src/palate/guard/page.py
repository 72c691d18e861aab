"""guard.html: the figures of a guard in one file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from palate.durable import write_text
from palate.evaluate.curves import Mark, draw_reliability, draw_roc, draw_scores
from palate.evaluate.pages import template
from palate.guard.evaluation import Figures
from palate.guard.heldout import Judged
from palate.guard.settings import Saved
from palate.guard.wording import headline, latency, rare, rows, share

HELD_OUT = (
    "Held-out rows, each judged by a calibration and a threshold that were fitted on the others."
)


def write_page(
    path: Path,
    name: str,
    saved: Saved,
    figures: Figures,
    judged: Judged,
    speed: Mapping[str, Any] | None,
    about: str = HELD_OUT,
) -> None:
    """Write the page; `about` says what the rows are."""
    unsafe_N = judged.unsafe_N
    at = Mark(figures.fpr.share, figures.recall.share, figures.recall.interval)
    bins = [Mark(one.predicted, one.observed, one.interval) for one in figures.calibrated.bins]
    slices = [
        (tag, [(one.value, share(one.recall), share(one.fpr)) for one in found])
        for tag, found in groupby(figures.slices, lambda one: one.tag)
    ]
    page = template("guard.html.j2").render(
        name=name,
        title=headline(figures),
        about=about,
        goal=saved.goal.words,
        rows=rows(figures),
        rare=rare(figures),
        latency=latency(speed) if speed else "",
        roc=draw_roc(figures.roc, at),
        reliability=draw_reliability(bins),
        scores=draw_scores(
            judged.scores_N[unsafe_N].tolist(), judged.scores_N[~unsafe_N].tolist(), saved.threshold
        ),
        slices=slices,
        kinds=" and ".join(f"{count} {kind}s" for kind, count in saved.kinds.items()),
        temperature=f"{saved.calibration.temperature:.3g}",
        bias=_added(saved.calibration.bias),
    )
    write_text(path, page)


def _added(bias: float) -> str:
    return f"{'−' if bias < 0 else '+'} {abs(bias):.3g}"
