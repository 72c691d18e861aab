"""An experiment: its cases, and how its figures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.durable import write_json, write_text
from palate.experiments.figures import Curve, Mean, Measure, draw, last, means, table
from palate.experiments.ground import FULL, REDUCED, Ground
from palate.experiments.listed import LISTED
from palate.experiments.runs import Case, run_all

RUNS, FIGURES = "runs.jsonl", "figures.json"


def nothing(found: Sequence[Mean]) -> Mapping[str, Any]:
    """No conclusion that a program draws."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One command, by a name of `palate.experiments.listed`.

    `begin` makes what all runs have in common of the scale, a dataclass: of most, a world. `cases`
    may depend on the scale; `shown` picks the points of the table, which has the
    measures `told`; the drawing has `ys` over `x`. `found` are the conclusions that go into the
    figures, and `border` a curve that is drawn with all. Points of a line with other values of the
    measure `apart_by` are not joined.
    """

    name: str
    cases: Callable[[Any], Sequence[Case]]
    x: Measure
    ys: Sequence[Measure]
    told: Sequence[Measure]
    shown: Callable[[Sequence[Mean]], Sequence[Mean]] = last
    found: Callable[[Sequence[Mean]], Mapping[str, Any]] = nothing
    border: Callable[[Any, Sequence[Mean]], Curve] | None = None
    apart_by: str | None = None
    begin: Callable[[Any], Any] = Ground.of
    full: Any = FULL
    reduced: Any = REDUCED

    def scale(self, *, reduced: bool) -> Any:
        """The size of everything."""
        return self.reduced if reduced else self.full


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the files are, and the table."""

    figures: Path
    drawing: Path
    table: tuple[list[str], list[list[str]]]


def perform(
    what: Experiment,
    folder: Path,
    seeds: Sequence[int],
    *,
    reduced: bool = False,
    lines: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run what is missing, and write figures.json and the drawing.

    `lines` leaves out the other ones. Raises `ValueError` for a line that is not there.
    """
    scale = what.scale(reduced=reduced)
    cases = chosen(what.cases(scale), lines)
    ground = what.begin(scale)
    rows = run_all(ground, scale, folder / RUNS, cases, seeds, say)
    return write(what, folder, ground, scale, rows)


def chosen(cases: Sequence[Case], lines: Sequence[str] | None) -> list[Case]:
    """The cases of some lines; a name stands for all lines that begin with it and a comma."""
    if lines is None:
        return list(cases)

    def named(case: Case, line: str) -> bool:
        return line in (case.line, case.line.split(",")[0])

    unknown = [line for line in lines if not any(named(case, line) for case in cases)]
    if unknown:
        known = ", ".join(dict.fromkeys(case.line.split(",")[0] for case in cases))
        raise ValueError(f"nothing here is called {', '.join(unknown)}; there are {known}")
    return [case for case in cases if any(named(case, line) for line in lines)]


def write(
    what: Experiment, folder: Path, ground: Any, scale: Any, rows: Sequence[Mapping[str, Any]]
) -> Outcome:
    """figures.json, and the drawing by the experiment's name."""
    found = means(rows)
    border = what.border(ground, found) if what.border is not None else None
    header, body = table(what.shown(found), what.told)
    figures: dict[str, Any] = {
        "experiment": what.name,
        "asks": LISTED[what.name],
        "scale": asdict(scale),
        "found": what.found(found),
        "table": [header, *body],
        "points": [one.to_json() for one in found],
    }
    if border is not None:
        figures["border"] = [[round(x, 6), round(y, 6)] for x, y in border]
    outcome = Outcome(folder / FIGURES, folder / f"{what.name}.svg", (header, body))
    write_json(outcome.figures, figures)
    write_text(outcome.drawing, draw(found, what.x, what.ys, border, what.apart_by))
    return outcome
