"""Rows that are broken in every way we know: none is lost silently, and nothing crashes.

A trial is a hundred rows of one format (all take their turn), fixtures with one to three faults and
lines that are hostile as text, in a file that is read, imported into a store, and prepared for
training from both; and one file that is broken as a whole. Each row is a record or a reject, the
counts of reading, import and store are the same, and each row is in the prepared examples or listed
as left out. What cannot be read at all is one line that says why.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from benchmarks.faults.power_cut import MEMORY

from palate.config import DataConfig
from palate.curate.prepare import Wanted, prepare
from palate.ingest import FORMATS, IngestError, read_arrivals
from palate.records import Arrival, Example, Reject, Signal
from palate.store.database import Store
from palate.store.importing import import_paths
from palate.store.judged import read_judged
from palate.store.schema import REJECT

FAULT = "bad rows and broken files"
HOLDS = "each of 100 rows is a record or a reject with its reason, and the counts agree; no crash"
TRIALS = 100  # of a hundred rows
ROWS = 100
HOSTILE = 0.15  # share of the lines that are hostile as text

SHAPES: tuple[Wanted, ...] = get_args(Wanted)
_LINES = (
    b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}',
    b'{"prompt": NaN, "chosen": Infinity, "rejected": -Infinity}',
    b'{"prompt": "a", "chosen": 1e999, "rejected": ' + b"9" * 5_000 + b"}",
    b'{"prompt": "\\ud83d", "chosen": "\\ud83d\\ud83d", "rejected": "x\\u0000"}',
    b'{"prompt": "\x00", "chosen": "a", "rejected": "b"}',
    b'{"prompt": "' + b"x" * 1_000_000 + b'", "chosen": "a", "rejected": "b"}',
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"[" * 50_000,
    b'"a text"',
    b"12",
    b"null",
    b"[]",
    b"{}",
    b'{"prompt": "a", "chosen": "b", "rejected": "c"},',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"prompt": "\xed\xa0\xbd", "chosen": "a", "rejected": "b"}',
    b'{"": {"": {"": []}}}',
    b'{"messages": [[[[[[[[]]]]]]]]}',
)


def trial(number: int, folder: Path) -> dict[str, object]:
    """One file of bad rows and one bad file; what became of them."""
    rng = random.Random(number)
    name = sorted(FORMATS)[number % len(FORMATS)]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else folder) as place:
        path = Path(place, "rows.jsonl")
        path.write_bytes(b"".join(_line(rng, name) + b"\n" for _ in range(ROWS)))
        known = rng.choice((name, name, "auto"))
        arrivals, rejects, stopped = _read(path, known)
        _each_is_accounted_for(arrivals, rejects, stopped, (name, known))
        _store_counts_the_same(Path(place), path, known, (arrivals, rejects, stopped))
        shape = rng.choice(SHAPES)
        left = _prepared(path, known, shape, arrivals)
        what = _broken_file(Path(place), rng)
    return {
        "format": known if known == name else f"{name} as auto",
        "records": len(arrivals),
        "rejects": dict(Counter(reject.reason for reject in rejects).most_common(4)),
        "prepared": f"{left} for {shape}",
        "file": what,
    }


def _line(rng: random.Random, name: str) -> bytes:
    from tests.ingest.mutation import broken_line

    if rng.random() < HOSTILE:
        return rng.choice(_LINES)
    return broken_line(rng.randrange(2**32), name).replace(b"\n", b" ")


def _read(path: Path, known: str) -> tuple[list[Arrival], list[Reject], str]:
    """Records, rejects, and why reading ended early or gave nothing."""
    arrivals: list[Arrival] = []
    rejects: list[Reject] = []
    try:
        for arrival in read_arrivals(path, known, rejects.append):
            arrivals.append(arrival)  # noqa: PERF402 - kept even if reading ends in an error
    except IngestError as error:
        return arrivals, rejects, _one_line(error)
    return arrivals, rejects, ""


def _one_line(error: Exception) -> str:
    text = str(error)
    assert text, f"{type(error).__name__} without a word"
    assert "\n" not in text, f"more than one line: {text[:200]!r}"
    text.encode()
    return text


def _each_is_accounted_for(
    arrivals: list[Arrival], rejects: list[Reject], stopped: str, format: tuple[str, str]
) -> None:
    name, known = format
    lines = {arrival.record.provenance[0].line for arrival in arrivals}
    refused = {reject.line for reject in rejects}
    assert bool(stopped) == (not arrivals), f"{len(arrivals)} records, and it said: {stopped}"
    assert all(reject.reason for reject in rejects)
    if stopped and (known == "auto" or "cannot read" in stopped):
        return  # none of the rows was recognised, or the file as a whole could not be read
    silent = set(range(1, ROWS + 1)) - lines - refused
    assert not silent, f"lines {sorted(silent)[:5]} are neither records nor rejects"
    if name != "opentelemetry":  # a line of which may hold several spans
        assert not lines & refused, "a line is both a record and a reject"
        assert len(refused) == len(rejects), "a line is refused twice"


def _store_counts_the_same(
    place: Path, path: Path, known: str, found: tuple[list[Arrival], list[Reject], str]
) -> None:
    """Import says what reading says, and the store holds it; then it is prepared from there."""
    arrivals, rejects, stopped = found
    db, said = place / "palate.db", ""
    listed: list[Reject] = []
    with Store.open(db) as store:
        try:
            summary = import_paths(store, [str(path)], known, on_reject=listed.append)
        except IngestError as error:
            said = _one_line(error)
        assert bool(said) == bool(stopped), f"reading says {stopped!r}, and importing {said!r}"
        if said:
            return
        assert [_place(one) for one in listed] == [_place(one) for one in rejects]
        assert sum(summary.shapes.values()) == len(arrivals)
        examples = sum(isinstance(arrival.record, Example) for arrival in arrivals)
        added = summary.added
        assert added.new + added.known + added.erased == examples, f"{added} of {examples}"
        with store.reading() as connection:
            kept = sorted(connection.execute(sa.select(REJECT.c.line)).scalars())
        assert kept == sorted({one.line for one in rejects}), "rejects are not in the store"
    for shape in SHAPES:
        config = DataConfig(path=str(db), heldout=0.0)
        try:
            prepared = prepare(config, 0, shape=shape, read=read_judged)
        except IngestError as error:
            _one_line(error)
            continue
        _writes(prepared.train)


def _place(reject: Reject) -> tuple[int, str]:
    return reject.line, reject.reason


def _prepared(path: Path, known: str, shape: Wanted, arrivals: list[Arrival]) -> int:
    """Prepare for training, and see where each row went; how many examples came of it.

    A row that only speaks about an answer has gone to that answer, if it is not listed, and rows
    with one prompt go together where pairs or prompts are wanted: one of them stands for all.
    """
    config = DataConfig(path=str(path), format=known, heldout=0.0)
    try:
        made = prepare(config, 0, shape=shape)
    except IngestError as error:
        _one_line(error)
        return 0
    _writes(made.train)
    lines = {place.line for example in made.train for place in example.provenance}
    refused = {reject.line for reject in made.rejects}
    said = {one.record.provenance[0].line for one in arrivals if isinstance(one.record, Signal)}
    together: dict[str, set[int]] = defaultdict(set)
    for record in (one.record for one in arrivals):
        if isinstance(record, Example) and shape in {"pair", "prompt"}:
            together[record.prompt_key].add(record.provenance[0].line)
    for group in together.values():
        said |= group if group & (lines | refused) else set()
    silent = set(range(1, ROWS + 1)) - lines - refused - said
    assert not silent, f"lines {sorted(silent)[:5]} are in no {shape} and not listed as left out"
    assert made.funnel.stages[0].count >= ROWS or known == "opentelemetry"
    return len(made.train)


def _writes(examples: list[Example]) -> None:
    """They can be written and read again, as a snapshot does."""
    for example in examples:
        text = json.dumps(example.to_dict(), ensure_ascii=False, allow_nan=False)
        assert Example.from_dict(json.loads(text.encode())).id == example.id


def _broken_file(place: Path, rng: random.Random) -> str:
    """A file that is broken as a whole: rows, rejects or one line."""
    name, content = rng.choice(_FILES)(rng)
    path = place / name
    path.write_bytes(content)
    arrivals, rejects, stopped = _read(path, "auto")
    assert arrivals or rejects or stopped, f"{name} was passed over without a word"
    with Store.open(place / "files.db") as store:
        try:
            summary = import_paths(store, [str(path)])
        except IngestError as error:
            _one_line(error)
            return f"{name}: {stopped.replace(str(path), name)[:80]}"
    assert sum(summary.shapes.values()) == len(arrivals)
    return f"{name}: {len(arrivals)} records, {len(rejects)} rejects"


def _rows(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {rng.random()}?", "chosen": "yes", "rejected": "no"}
        for _ in range(rng.randint(1, 40))
    ]


def _text(rng: random.Random) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in _rows(rng)).encode()


def _cut_or_flipped(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    if rng.random() < 0.5:
        return content[:at]
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _packed(rng: random.Random) -> tuple[str, bytes]:
    return "rows.jsonl.gz", _cut_or_flipped(gzip.compress(_text(rng)), rng)


def _parquet(rng: random.Random) -> tuple[str, bytes]:
    into = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_rows(rng)), into)
    return "rows.parquet", _cut_or_flipped(into.getvalue(), rng)


def _arrow(rng: random.Random) -> tuple[str, bytes]:
    into = io.BytesIO()
    table = pa.Table.from_pylist(_rows(rng))
    with pa.ipc.new_file(into, table.schema) as writer:
        writer.write_table(table)
    return "rows.arrow", _cut_or_flipped(into.getvalue(), rng)


def _zipped(rng: random.Random) -> tuple[str, bytes]:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("rows.jsonl", _text(rng))
    return rng.choice(("rows.jsonl", "rows", "rows.jsonl.gz", "rows.csv")), into.getvalue()


def _wide(rng: random.Random) -> tuple[str, bytes]:
    codec = rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"))
    return "rows.jsonl", _cut_or_flipped(_text(rng).decode().encode(codec), rng)


def _other(rng: random.Random) -> tuple[str, bytes]:
    name = rng.choice(("rows.json", "rows.csv", "rows.tsv", "rows.txt", "rows.parquet", "rows.zst"))
    return name, _cut_or_flipped(_text(rng), rng)


def _noise(rng: random.Random) -> tuple[str, bytes]:
    name = rng.choice(("rows.jsonl", "rows.json", "rows.csv", "rows.md", "rows", "rows.arrow"))
    return name, rng.randbytes(rng.randint(1, 5_000))


_FILES = (_packed, _parquet, _arrow, _zipped, _wide, _other, _noise)
