"""Data files that were made to run code: refused in one line, by name and by content."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.ingest import IngestError, read_examples


class Payload:
    """Makes the folder of the trap when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ["PALATE_TEST_TRAP"],)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_TEST_TRAP", str(tmp_path / "ran"))
    return tmp_path / "ran"


@pytest.mark.parametrize("name", ["rows.pkl", "rows.pickle", "rows.npy", "rows.jsonl", "rows"])
def test_pickled_rows_are_not_opened(tmp_path: Path, trap: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps([Payload()]))
    found = refused_or_rejected(path)
    assert not trap.exists()
    assert found
    assert found.isprintable(), repr(found)


def refused_or_rejected(path: Path) -> str:
    """The one line of the refusal, or the reasons of its rows, of which none is good."""
    reasons: list[str] = []
    try:
        found = list(read_examples(path, on_reject=lambda reject: reasons.append(reject.reason)))
    except IngestError as error:
        return str(error)
    assert not found
    return " ".join(reasons)


def test_python_objects_in_parquet_stay_bytes(tmp_path: Path, trap: Path) -> None:
    """pyarrow once unpickled the type of a column that said so; no column may bring it back."""
    marks = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    marks[b"ARROW:extension:metadata"] = pickle.dumps(Payload())
    field = pa.field("prompt", pa.string(), metadata=marks)
    answers = [pa.field(name, pa.string()) for name in ("chosen", "rejected")]
    schema = pa.schema([field, *answers])
    table = pa.table([["a"], ["b"], ["c"]], schema=schema)
    pq.write_table(table, tmp_path / "rows.parquet")
    (example,) = read_examples(tmp_path / "rows.parquet")
    assert example.prompt[0].content == "a"
    assert not trap.exists()


def test_objects_of_pandas_stay_bytes(tmp_path: Path, trap: Path) -> None:
    """pandas' note in the schema may call a column pickled: it is bytes, and no text."""
    note = {"columns": [{"name": "chosen", "pandas_type": "object", "numpy_type": "pickle"}]}
    column = pa.array([pickle.dumps(Payload())], pa.binary())
    table = pa.table({"prompt": ["a"], "chosen": column, "rejected": ["c"]})
    table = table.replace_schema_metadata({b"pandas": json.dumps(note).encode()})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert refused_or_rejected(tmp_path / "rows.parquet")
    assert not trap.exists()
