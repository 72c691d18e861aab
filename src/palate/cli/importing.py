"""`palate import`: files into the store, with a summary of what was found in them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.records import Reject
    from palate.store.importing import Summary

_LOOKED_AT = 200  # rows by which the number of all is estimated


def run_import(
    paths: Sequence[str], db: str, format: str, rejects: str | None, *, as_json: bool
) -> None:
    """Import, and say what came of it."""
    from palate.store.database import Store
    from palate.store.importing import import_paths

    say = reporter_for()
    listed = Rejects(rejects)
    began = time.monotonic()
    with Store.open(db) as store, listed, say.bar("importing", estimated_rows(paths)) as bar:
        rows = 0

        def advance(count: int, name: str) -> None:
            nonlocal rows
            rows += count
            bar.advance(count, f"{rows / (time.monotonic() - began):,.0f} rows/s  {name}")

        summary = import_paths(store, paths, format, on_reject=listed, advance=advance)
    seconds = time.monotonic() - began
    if as_json:
        typer.echo(json.dumps(as_dict(summary, seconds), ensure_ascii=False))
    else:
        show(summary, listed, db, say)


class Rejects:
    """Counts refused rows, shows the first of each reason, and lists all in a file if wanted."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.count: Counter[str] = Counter()
        self.first: dict[str, Reject] = {}
        self.file: TextIO | None = None

    def __enter__(self) -> Rejects:
        """Open the file."""
        if self.path is not None:
            self.file = Path(self.path).open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def __call__(self, reject: Reject) -> None:
        """Take one."""
        self.count[reject.reason] += 1
        self.first.setdefault(reject.reason, reject)
        if self.file is not None:
            self.file.write(json.dumps(reject.to_dict(), ensure_ascii=False) + "\n")


def estimated_rows(paths: Sequence[str]) -> int:
    """About how many rows there are, by the first of each file and its size; for the bar."""
    from palate.ingest.read import sources_of

    return sum(_rows(path) for given in paths for _, path, _ in sources_of(given))


def _rows(path: Path) -> int:
    from itertools import islice

    from palate.ingest import IngestError, containers
    from palate.store.importing import PACKED

    if containers.kind_of(path) == "parquet":
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(path).num_rows)
        except (OSError, ValueError):
            return 0
    try:
        first = list(islice(containers.rows(path), _LOOKED_AT))
    except IngestError:
        return 0
    if len(first) < _LOOKED_AT:
        return len(first)
    packed = PACKED if path.suffix.lower() in containers.COMPRESSED else 1
    length = sum(len(json.dumps(row.value)) for row in first) / len(first)
    return int(path.stat().st_size * packed / max(1.0, length))


def as_dict(summary: Summary, seconds: float) -> dict[str, Any]:
    """The summary for `--json`."""
    return {
        "files": summary.files,
        "rows": summary.rows,
        "added": asdict(summary.added),
        "shapes": dict(summary.shapes),
        "signals": dict(summary.signals),
        "rejected": dict(summary.rejected),
        "skipped": summary.skipped,
        "problems": summary.problems,
        "ignored": [str(path) for path in summary.ignored],
        "seconds": seconds,
    }


def show(summary: Summary, rejects: Rejects, db: str, say: Reporter) -> None:
    """The summary as a table, then what to do next."""
    added = summary.added
    rows = [
        ["rows read", f"{summary.rows:,}", _kinds(summary.shapes)],
        ["interactions", f"{added.new:,}", f"new; {added.known:,} were there already"],
        ["events", f"{added.events:,}", _kinds(summary.signals) or "no thumb, score, edit or vote"],
    ]
    if added.waiting:
        rows.append(["events that wait", f"{added.waiting:,}", "their interaction has not come"])
    if added.erased:
        rows.append(["deleted before", f"{added.erased:,}", "and stay deleted"])
    rows += [
        [f"refused: {reason}", f"{count:,}", _place(rejects.first[reason])]
        for reason, count in summary.rejected.most_common()
    ]
    say.table("", ["", "count", ""], rows)
    for name in summary.skipped:
        say.note(f"{name}: imported before, nothing added")
    for problem in summary.problems:
        say.note(f"! {problem}")
    if summary.ignored:
        kinds = Counter(path.suffix or path.name for path in summary.ignored)
        say.note(f"no data by their names, and not read: {_kinds(kinds)}")
    if summary.rejected and rejects.path is None:
        say.note("list every refused row with --rejects FILE")
    say.note(f"\nstore   {db}\nnext:   palate data show {db}\n        palate init MODEL {db}")


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common())


def _place(reject: Reject) -> str:
    return f"first at {reject.source}:{reject.line}: {reject.detail}"
