"""The table of the desk's pipelines, from what their runs have left."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.desk.pipelines import DESK, RATE, ROOT, Pipeline, names, note_of

from palate.experiments.rlhf import at_equal_kl

FAR = 4.0  # times the KL of the checkpoint before
GIB = 2**30


@dataclass(frozen=True)
class Cell:
    """A run: where its path went by step, what it took, and whether it went wrong."""

    path: dict[int, dict[str, float]]
    minutes: float
    samples: int
    wrong: bool

    @property
    def last(self) -> dict[str, float]:
        """The end of its path."""
        return self.path[max(self.path)]

    def at(self, kl: float, what: str) -> float:
        """Where the path first passes a KL; NaN if it never does, or leaps over it."""
        for before, after in pairwise(sorted(self.path)):
            low, high = self.path[before], self.path[after]
            if low["kl"] <= kl <= high["kl"]:
                if low["kl"] * FAR < high["kl"]:
                    return math.nan
                return at_equal_kl([(one["kl"], one[what]) for one in (low, high)], kl)
        return math.nan


def read(one: Pipeline, rate: float, seed: int, out: Path) -> Cell | None:
    """A run's figures; None where it has not been made."""
    folders = [out / name for name in names(one, rate, seed)]
    if not all(note_of(folder).is_file() for folder in folders):
        return None
    ends = [json.loads(note_of(folder).read_text(encoding="utf-8")) for folder in folders]
    if any(end["ended"] is None for end in ends):
        return None
    if not ends[-1]["ended"]:
        return Cell({}, 0.0, 0, True)
    if not (folders[-1] / "path.json").is_file():
        return None
    raw = json.loads((folders[-1] / "path.json").read_text(encoding="utf-8"))
    path = {int(step): found for step, found in raw.items()}
    if set(path) != {0, *one.stages[-1].steps}:
        return None
    return Cell(
        path,
        sum(end["seconds"] for end in ends) / 60,
        drawn(folders[-1]),
        path[max(path)]["kept"] < path[0]["kept"],
    )


def drawn(folder: Path) -> int:
    """Answers that a run sampled to learn from; 0 of one that learned from a log."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return (results["rollouts"] or {"answers": 0})["answers"]  # type: ignore[no-any-return]


def memory(one: Pipeline, out: Path) -> float:
    """The largest of its stages, in GiB; NaN where `--memory` has not been run."""
    found = [note_of(out / "memory" / name) for name in names(one, RATE, 0)]
    if not all(note.is_file() for note in found):
        return math.nan
    return max(json.loads(note.read_text(encoding="utf-8"))["peak"] for note in found) / GIB


def kept(out: Path, folder: Path) -> None:
    """Copy what the table is made of: the stages' ends, the paths and the counts of samples."""
    for note in [*out.glob("*.json"), *out.glob("memory/*.json")]:
        place = folder / note.relative_to(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(note.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        run = note.with_suffix("")
        if (run / "path.json").is_file():
            place.with_suffix("").mkdir(exist_ok=True)
            results = json.dumps({"rollouts": {"answers": drawn(run)}}) + "\n"
            (place.with_suffix("") / "results.json").write_text(results, encoding="utf-8")
            (place.with_suffix("") / "path.json").write_bytes((run / "path.json").read_bytes())


def table(wanted: Sequence[Pipeline], out: Path, kl: float) -> list[str]:
    """A line for each pipeline and rate that was run: means over seeds, and the seeds."""
    lines = [
        (
            "| | rate | stages | models | lines of recipe | samples | minutes | memory, GiB "
            f"| rules kept at {kl:g} nats | score there | rules kept at the end | KL there "
            "| words | gone wrong |"
        ),
        "|---" * 14 + "|",
    ]
    for one in wanted:
        rates = {float(path.stem.rsplit("-", 2)[1]) for path in notes(one, out)}
        for rate in sorted(rates):
            seeds = sorted(
                int(path.stem.rsplit("-", 1)[1])
                for path in notes(one, out)
                if path.stem.startswith(f"{one.label}-{rate:g}-")
            )
            cells = [cell for seed in seeds if (cell := read(one, rate, seed, out)) is not None]
            if not cells:
                continue
            ended = [cell for cell in cells if cell.path]
            fields = [
                one.label,
                f"{rate:g}",
                str(len(one.stages)),
                one.models,
                str(sum(length(DESK / stage.recipe) for stage in one.stages)),
                f"{max(cell.samples for cell in cells)}",
                told([cell.minutes for cell in ended], "{:.0f}"),
                told([memory(one, out)], "{:.1f}"),
                told([100 * cell.at(kl, "kept") for cell in ended], "{:.0f}"),
                told([cell.at(kl, "score") for cell in ended], "{:.2f}"),
                told([100 * cell.last["kept"] for cell in ended], "{:.0f}"),
                told([cell.last["kl"] for cell in ended], "{:.1f}"),
                told([cell.last["words"] for cell in ended], "{:.0f}"),
                f"{sum(cell.wrong for cell in cells)} of {len(cells)}",
            ]
            lines.append("| " + " | ".join(fields) + " |")
    return lines


def paths(wanted: Sequence[Pipeline], out: Path) -> list[str]:
    """Where each run's checkpoints stood: between which of them the rules at a KL were read."""
    lines = ["| run | checkpoints: KL in nats, answers that keep the rules |", "|---|---|"]
    for one in wanted:
        for note in notes(one, out):
            _, rate, seed = note.stem.rsplit("-", 2)
            cell = read(one, float(rate), int(seed), out)
            if cell is None or not cell.path:
                continue
            # A sampled KL of nearly nothing may be below 0; `z` tells it without a sign.
            went = [f"{at['kl']:z.1f}: {at['kept']:.0%}" for _, at in sorted(cell.path.items())]
            lines.append(f"| {note.stem} | {', '.join(went)} |")
    return lines


def notes(one: Pipeline, out: Path) -> list[Path]:
    """What was written when a pipeline's last stages ended."""
    return sorted(out.glob(f"{one.label}-*.json"))


def length(recipe: Path) -> int:
    """Lines of a recipe that say something."""
    lines = (ROOT / recipe).read_text(encoding="utf-8").splitlines()
    return sum(bool(line.split("#")[0].strip()) for line in lines)


def told(values: Sequence[float], form: str) -> str:
    """The mean of those there are, with the values of the seeds where there are several."""
    each = [form.format(value) if math.isfinite(value) else "–" for value in values]
    there = [value for value in values if math.isfinite(value)]
    if not there or len(values) == 1:
        return each[0] if len(each) == 1 else "–"
    return f"{form.format(statistics.fmean(there))} ({', '.join(each)})"
