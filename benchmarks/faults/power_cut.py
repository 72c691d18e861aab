"""The power goes while a store is written: what was acknowledged is there, once, and nothing half.

`power_cut_writer` is recorded on a disk that loses what was not flushed (`disk`); each trial cuts
the power at one moment of it and opens what is left as Palate does. The store must be in the state
of the last acknowledged transaction, or in that of the one under way; no word of an acknowledged
deletion may stand in any of the files; and the store must take what comes next.
"""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.faults.disk import Cut, Recording, record
from benchmarks.faults.power_cut_writer import DB, SOURCE, events, exchange, state_of

from palate.store.database import Store
from palate.web.capture.rows import arrivals_of

FAULT = "power cut while the store is written"
HOLDS = "each acknowledged event is there once, each acknowledged deletion too; the store is whole"
TRIALS = 1_000
CUTS = 100
"""Trials of one recording; the next hundred have another order of writes."""
MEMORY = Path("/dev/shm")  # noqa: S108 - where it is there, a trial waits for no real disk


@dataclass(frozen=True)
class Written:
    """A recording, and the states that it went through, the first before anything was written."""

    recording: Recording
    states: list[list[str]]


@cache
def written(seed: int, synchronous: str = "") -> Written:
    """What the writer with that seed did; made once a process."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        root, notes = Path(folder, "root"), Path(folder, "notes")
        notes.mkdir()
        words = ["-m", "benchmarks.faults.power_cut_writer", str(root), str(notes), str(seed)]
        recording = record([*words, *filter(None, [synchronous])], root, Path(folder, "log"))
        lines = (notes / "states.jsonl").read_text(encoding="utf-8").splitlines()
    return Written(recording, [json.loads(line) for line in lines])


def trial(number: int, folder: Path, *, synchronous: str = "") -> dict[str, object]:
    """Cut the power once; what was acknowledged until then. `AssertionError` if it is not there."""
    rng = random.Random(number)
    found = written(number // CUTS, synchronous)
    at = found.recording.moment(rng)
    cut = Cut.drawn(rng, at)
    marks = found.recording.marked_before(at)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else folder) as left:
        found.recording.after_cut(at, cut, Path(left))
        _nothing_deleted_is_left(Path(left), marks)
        state = _state_after(Path(left), found, marks)
        _it_goes_on(Path(left) / DB)
    return {
        "cut": f"{at} of {len(found.recording.operations)}",
        "arrived": f"{cut.share:.2f} of sectors of {cut.sector} bytes",
        "acknowledged": len([one for one in marks if one.startswith("done ")]),
        "rows": len(found.states[state]),
        "state": state,
    }


def _nothing_deleted_is_left(folder: Path, marks: list[str]) -> None:
    gone = {word for one in marks if one.startswith("gone ") for word in one.split()[1:]}
    for path in folder.iterdir():
        content = path.read_bytes()
        for word in gone:
            assert word.encode() not in content, f"{path.name} holds {word}, which was deleted"


def _state_after(folder: Path, found: Written, marks: list[str]) -> int:
    """The number of the state that the store is in, which must be an admitted one."""
    acknowledged = [int(one.split()[1]) for one in marks if one.startswith("state ")]
    last = max(acknowledged, default=0)
    _is_whole(folder / DB)
    with Store.open(folder / DB) as store:
        state = state_of(store)
    _is_whole(folder / DB)
    for number in (last, last + 1):
        if number < len(found.states) and state == found.states[number]:
            return number
    lost = Counter(found.states[last]) - Counter(state)
    more = Counter(state) - Counter(found.states[last])
    raise AssertionError(
        f"after {len(acknowledged)} acknowledged transactions {sum(lost.values())} rows are lost "
        f"and {sum(more.values())} are there that nobody wrote"
    )


def _is_whole(path: Path) -> None:
    if not path.exists():
        return
    connection = sqlite3.connect(path)
    (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    assert said == "ok", f"the database is damaged: {said}"


def _it_goes_on(path: Path) -> None:
    row = exchange(999_999, "later", "word") | {"metadata": {"conversation_id": "later"}}
    with Store.open(path) as store:
        before = events(store), len(state_of(store))
        added = store.add(arrivals_of(row, SOURCE, 1), SOURCE)
        assert added.new == 1, f"the store does not take what comes next: {added}"
    with Store.open(path) as store:
        assert len(state_of(store)) > before[1], "what was added after the power cut is not there"
