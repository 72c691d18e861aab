"""`palate guard eval`: a guard on labelled rows that it has not learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palate.guard.check import Guard, kind_of
from palate.guard.evaluation import Figures, latency_facts, measure, measure_latency
from palate.guard.heldout import judged_by, unsafe_rows
from palate.guard.page import write_page
from palate.machine import threads
from palate.progress import Quiet, Reporter
from palate.records import Example
from palate.store.snapshot import read_snapshot
from palate.tokens.render import Rendered, Unusable


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures, latency, and what has to be said about the rows."""

    figures: Figures
    latency: dict[str, Any]
    trained_on: int | None
    calibrated_on: int | None
    unreadable: dict[str, int]

    @property
    def remarks(self) -> list[str]:
        """Sentences about rows that were left out, or that the guard knows."""
        said = []
        if self.trained_on is None:
            said.append(
                "the guard's folder has no snapshot, so nobody can tell whether it was trained on "
                "some of these rows"
            )
        if self.trained_on:
            said.append(f"left out: {self.trained_on} rows whose prompts it was trained on")
        if self.calibrated_on:
            said.append(
                f"{self.calibrated_on} of the rows calibrated it: on them its threshold and its "
                "probabilities look better than they are"
            )
        if self.unreadable:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.unreadable.items())
            said.append(f"left out: rows that it cannot read, and would flag ({reasons})")
        return said

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            "figures": self.figures.to_dict(),
            "latency": self.latency,
            "trained_on": self.trained_on,
            "calibrated_on": self.calibrated_on,
            "unreadable": self.unreadable,
        }


def evaluate_guard(
    folder: Path,
    examples: Sequence[Example],
    page: Path | None = None,
    reporter: Reporter | None = None,
) -> Measured:
    """Measure the guard in `folder` on examples with a thumb each.

    Left out, and counted, are rows whose prompts it was trained on, and rows that it cannot read.
    Raises `ValueError` where there is no guard, or too little is left to measure on.
    """
    say = reporter or Quiet()
    torch.set_num_threads(threads())
    guard = Guard.load(folder)
    fresh, trained, calibrated = _unknown(folder, examples)
    if not fresh:
        raise ValueError(
            f"the guard was trained on the prompts of all {len(examples)} rows: give rows that it "
            "has not seen"
        )
    kept, rendered, unreadable = _readable(guard, fresh)
    guard.require({kind_of(example) for example in kept})
    with say.bar("scoring", len(kept)) as bar:
        scores_N = guard.scorer.scores(rendered, bar.advance)
    saved = guard.saved
    judged = judged_by(scores_N, unsafe_rows(kept), saved.calibration, saved.threshold)
    figures = measure(judged, kept)
    tokens = [len(one.branches[0].ids) for one in rendered]
    latency = latency_facts(measure_latency(lambda example: guard.check([example]), kept, tokens))
    measured = Measured(figures, latency, trained, calibrated, dict(unreadable))
    if page is not None:
        about = " ".join(
            [
                f"{figures.rows} labelled rows.",
                *(f"{r[:1].upper()}{r[1:]}." for r in measured.remarks),
            ]
        )
        write_page(page, folder.name, saved, figures, judged, latency, about)
    return measured


def _unknown(
    folder: Path, examples: Sequence[Example]
) -> tuple[list[Example], int | None, int | None]:
    """The examples without those that were trained on; how many these were; and how many calibrate.

    None for both where the guard's folder does not hold the data of its run.
    """
    place = folder / "snapshot"
    if not (place / "manifest.json").is_file():
        return list(examples), None, None
    data = read_snapshot(place)
    trained = {example.prompt_key for example in data.train}
    held = {example.prompt_key for example in data.heldout}
    fresh = [example for example in examples if example.prompt_key not in trained]
    return fresh, len(examples) - len(fresh), sum(one.prompt_key in held for one in fresh)


def _readable(
    guard: Guard, examples: Sequence[Example]
) -> tuple[list[Example], list[Rendered], Counter[str]]:
    kept: list[Example] = []
    rendered: list[Rendered] = []
    reasons: Counter[str] = Counter()
    for example in examples:
        try:
            rendered.append(guard.scorer.render(example))
        except Unusable as error:
            reasons[error.reason] += 1
        else:
            kept.append(example)
    return kept, rendered, reasons
