"""The power goes while files are written: texts, folders, snapshots, row logs, the spill folder.

As `power_cut`, of everything else that Palate says is on the disk. A text is the one that was last
acknowledged, or the next; a folder or a snapshot that was acknowledged is whole, and so is any
other that has its final name; of a log of rows nothing acknowledged is missing, and it goes on.

`python -m benchmarks.faults.power_cut_files FOLDER SEED` is what is recorded.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import Cut, Recording, mark, record
from benchmarks.faults.power_cut import CUTS, MEMORY

from palate.durable import commit_folder, verify_folder, write_text
from palate.records import Completion, Example, Message, Reject
from palate.resumable import RowLog
from palate.store.snapshot import read_snapshot, write_snapshot
from palate.web.capture.journal import Journal

FAULT = "power cut while files are written"
HOLDS = "each text, folder, snapshot and row that was acknowledged is there, whole"
TRIALS = 1_000
STEPS = 60
TEXTS, GROUPS, SEGMENT = 3, 6, 4_000
SETTINGS = {"seed": 0}


class Writer:
    """All kinds of files in one folder, in a drawn order."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.count: dict[str, int] = defaultdict(int)
        self.journal = Journal(folder / "state" / "spill", 2**30, SEGMENT)

    def run(self) -> None:
        """All steps; each is marked when its call has come back."""
        steps = (self.text, self.text, self.fresh, self.again, self.snapshot, self.rows, self.rows)
        for _ in range(STEPS):
            self.rng.choice((*steps, self.spill, self.spill, self.settle))()
        self.journal.close()

    def next(self, what: str) -> int:
        """The number of the next one of its kind, from 1."""
        self.count[what] += 1
        return self.count[what]

    def text(self) -> None:
        """A file that is replaced as a whole."""
        name = f"text-{self.rng.randrange(TEXTS)}"
        number = self.next(name)
        write_text(self.folder / name, text(name, number))
        mark(f"{name} {number}")

    def fresh(self) -> None:
        """A folder that was not there, as of a checkpoint."""
        number = self.next("fresh")
        commit_folder(self.folder / "run" / "checkpoints" / f"step-{number}", _filled(number), {})
        mark(f"fresh {number}")

    def again(self) -> None:
        """A folder in the place of an earlier one, as of an export."""
        number = self.next("again")
        commit_folder(self.folder / "best", _filled(number), {})
        mark(f"again {number}")

    def snapshot(self) -> None:
        """A snapshot of examples."""
        number = self.next("snapshot")
        write_snapshot(self.folder / "snapshots" / str(number), *snapshot(number))
        mark(f"snapshot {number}")

    def rows(self) -> None:
        """The next group of a log that is opened anew each time."""
        number = self.next("rows")
        place = self.folder / "answers" / f"{number // GROUPS}.jsonl"
        with RowLog(place, SETTINGS, [2] * GROUPS) as log:
            log.append(group(number))
        mark(f"rows {number}")

    def spill(self) -> None:
        """Lines that wait for the store."""
        lines = [line(self.next("lines")) for _ in range(self.rng.randint(1, 5))]
        self.journal.append(lines)
        mark(f"lines {self.count['lines']}")

    def settle(self) -> None:
        """Lines that a store has taken; it is marked before, as the store would have them."""
        lines = self.journal.take(self.rng.randint(1, 8), 0)
        if lines:
            self.count["settled"] += len(lines)
            mark(f"settled {self.count['settled']}")
            self.journal.settle(lines)


def text(name: str, number: int) -> str:
    """A version of a text; the versions differ in length."""
    return f"{name} in its version {number}\n" * (1 + 7 * number % 300)


def group(number: int) -> list[dict[str, Any]]:
    """Two rows, together longer than a sector."""
    return [{"group": number, "row": row, "text": "word " * 90} for row in (0, 1)]


def line(number: int) -> bytes:
    """A line of the spill folder."""
    return json.dumps({"line": number, "text": "word " * (number % 150)}).encode()


def snapshot(number: int) -> tuple[list[Example], list[Example], list[Reject]]:
    """Train, held-out and refused rows."""
    question = (Message("user", f"Question {number}?"),)
    answer = Completion((Message("assistant", f"Answer {number}. " * 40),))
    return [Example(question, (answer,))], [], [Reject("log.jsonl", number, "empty-answer", "none")]


def _filled(number: int) -> Any:
    def fill(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(str(number).encode() * 3_000)
        (folder / "ranks").mkdir()
        (folder / "ranks" / "0.bin").write_bytes(str(number).encode() * 700)

    return fill


@cache
def written(seed: int) -> Recording:
    """What the writer with that seed did; made once a process."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        root = Path(folder, "root")
        words = ["-m", "benchmarks.faults.power_cut_files", str(root), str(seed)]
        return record(words, root, Path(folder, "log"))


def trial(number: int, folder: Path) -> dict[str, object]:
    """Cut the power once; `AssertionError` where something acknowledged is not there."""
    rng = random.Random(number)
    recording = written(number // CUTS)
    at = recording.moment(rng)
    cut = Cut.drawn(rng, at)
    last: dict[str, int] = defaultdict(int)
    for said in recording.marked_before(at):
        name, count = said.split()
        last[name] = int(count)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else folder) as left:
        recording.after_cut(at, cut, Path(left))
        for check in (_texts, _fresh, _again, _snapshots, _rows, _spill):
            check(Path(left), last)
    return {
        "cut": f"{at} of {len(recording.operations)}",
        "arrived": f"{cut.share:.2f} of sectors of {cut.sector} bytes",
        "acknowledged": len(recording.marked_before(at)),
    }


def _texts(folder: Path, last: dict[str, int]) -> None:
    for name in (f"text-{number}" for number in range(TEXTS)):
        path = folder / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        admitted = [text(name, last[name]) if last[name] else "", text(name, last[name] + 1)]
        assert found in admitted, f"{name} is neither its version {last[name]} nor the next"


def _whole(folder: Path, numbers: tuple[int, ...]) -> None:
    verify_folder(folder)
    found = (folder / "weights.bin").read_bytes(), (folder / "ranks" / "0.bin").read_bytes()
    whole = [(str(n).encode() * 3_000, str(n).encode() * 700) for n in numbers]
    assert found in whole, f"{folder.name} is not as it was acknowledged"


def _fresh(folder: Path, last: dict[str, int]) -> None:
    place = folder / "run" / "checkpoints"
    for number in range(1, last["fresh"] + 1):
        assert (place / f"step-{number}").is_dir(), f"the folder step-{number} is lost"
    for found in place.glob("step-*"):
        _whole(found, (int(found.name.removeprefix("step-")),))


def _again(folder: Path, last: dict[str, int]) -> None:
    number = last["again"]
    place = folder / "best"
    if not place.exists():  # the moment between two renames, which `palate.durable` names
        place = folder / ".best.old"
    assert place.exists() or not number, "the folder that was replaced is lost"
    if place.exists():
        _whole(place, (number, number + 1))


def _snapshots(folder: Path, last: dict[str, int]) -> None:
    place = folder / "snapshots"
    for number in range(1, last["snapshot"] + 1):
        assert (place / str(number)).is_dir(), f"the snapshot {number} is lost"
    for found in place.glob("[0-9]*"):
        kept = read_snapshot(found)
        train, heldout, rejects = snapshot(int(found.name))
        assert (kept.train, kept.heldout, kept.rejects) == (train, heldout, rejects)


def _rows(folder: Path, last: dict[str, int]) -> None:
    for log in range((last["rows"] + 1) // GROUPS + 1):
        groups = [n for n in range(max(1, log * GROUPS), (log + 1) * GROUPS) if n <= last["rows"]]
        acknowledged = [row for number in groups for row in group(number)]
        path = folder / "answers" / f"{log}.jsonl"
        with RowLog(path, SETTINGS, [2] * GROUPS) as opened:
            kept = opened.rows[: len(acknowledged)]
            assert kept == acknowledged, f"rows of {path.name} that were acknowledged are lost"
            more = opened.rows[len(acknowledged) :]
            assert more in ([], group(last["rows"] + 1)), f"{path.name} has rows that nobody wrote"
            opened.append(group(0))
        with RowLog(path, SETTINGS, [2] * (GROUPS + 1)) as opened:
            assert opened.rows == [*kept, *more, *group(0)]


def _spill(folder: Path, last: dict[str, int]) -> None:
    journal = Journal(folder / "state" / "spill", 2**30, SEGMENT)
    found: list[bytes] = []
    while taken := journal.take(100, 0):
        found += [text for _, text in taken]
        journal.settle(taken)
    journal.append([line(0)])
    assert [text for _, text in journal.take(100, 0)] == [line(0)]
    journal.close()
    for number in range(last["settled"] + 1, last["lines"] + 1):
        assert found.count(line(number)) == 1, f"line {number} of the spill folder is lost"
    shutil.rmtree(folder / "state")


if __name__ == "__main__":
    Writer(Path(sys.argv[1]), int(sys.argv[2])).run()
