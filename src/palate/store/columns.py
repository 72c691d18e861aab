"""Examples as Parquet columns and back: flat where people query, JSON where records nest."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palate.records import Example, canonical_json

_JSON = ("prompt", "completions", "verdict", "tools", "tags", "provenance")
# source, line, time and hash repeat the first provenance, so that a query needs no JSON.
SCHEMA = pa.schema(
    [("id", pa.string())]
    + [(name, pa.string()) for name in _JSON]
    + [("source", pa.string()), ("line", pa.int64()), ("time", pa.string()), ("hash", pa.string())]
)


def write_parquet(path: Path, examples: Sequence[Example]) -> None:
    """Write the examples in their order, flushed to the disk."""
    table = pa.Table.from_pylist([_row(example) for example in examples], schema=SCHEMA)
    with path.open("wb") as handle:
        pq.write_table(table, handle, compression="zstd")
        handle.flush()
        os.fsync(handle.fileno())


def read_parquet(path: Path) -> list[Example]:
    """The examples that `write_parquet` wrote, equal and in the same order."""
    columns = ["id", *_JSON]
    return [
        Example.from_dict({"id": row["id"], **{name: json.loads(row[name]) for name in _JSON}})
        for row in pq.read_table(path, columns=columns).to_pylist()
    ]


def _row(example: Example) -> dict[str, str | int | None]:
    whole = example.to_dict()
    first = whole["provenance"][0] if whole["provenance"] else {}
    row: dict[str, str | int | None] = {name: canonical_json(whole[name]) for name in _JSON}
    row["id"] = whole["id"]
    for name in ("source", "line", "time", "hash"):
        row[name] = first.get(name)
    return row
