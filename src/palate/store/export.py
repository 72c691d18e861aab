"""Examples as files of other programs: TRL, OpenAI, Axolotl, LLaMA-Factory."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from palate.curate.rejects import OnReject, reject
from palate.durable import sync_folder
from palate.records import Completion, Example
from palate.store.targets import Row, Unfit, find


def write(
    path: Path, examples: Iterable[Example], target: str, on_reject: OnReject | None = None
) -> int:
    """Write the examples as JSONL in the target's format; how many rows there were.

    See `export`, and `write_jsonl` for packing. Without `on_reject` nothing is left out: where an
    example has no place, a `ValueError` counts the reasons, and no file is written.
    """
    refused: Counter[str] = Counter()
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in export(examples, target, on_reject or (lambda r: refused.update([r.reason]))):
            count += 1
            yield row
        if refused:
            reasons = ", ".join(f"{reason} {number}" for reason, number in refused.most_common())
            raise ValueError(
                f"{refused.total()} of {count + refused.total()} examples have no place in "
                f"{target}: {reasons}"
            )

    return write_jsonl(path, counted())


def export(examples: Iterable[Example], target: str, on_reject: OnReject) -> Iterator[Row]:
    """The rows of the examples in the target's format, in their order.

    A labelled example gives a row for each answer that has a thumb. What the target has no place
    for goes to `on_reject` (see `palate.store.targets`). Raises `ValueError` for an unknown
    target, and for a shape that it does not have.
    """
    found = find(target)
    for example in examples:
        write_row = found.shapes.get(example.shape)
        if write_row is None:
            raise ValueError(
                f"{found.name} has no place for a {example.shape}: it takes "
                f"{', '.join(found.shapes)}"
            )
        for one in _singles(example):
            try:
                yield write_row(one)
            except Unfit as error:
                on_reject(reject(one, error.reason, str(error)))


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSONL, packed as `.gz` or `.zst` by the name; how many there were.

    The file appears whole or not at all. Raises `ValueError` if there is no row.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with scratch.open("wb") as file:
            with _packed(path, file) as out:
                for row in rows:
                    line = json.dumps(row, ensure_ascii=False, separators=(", ", ": "))
                    out.write(f"{line}\n".encode())
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        if count == 0:
            raise ValueError(f"nothing to write to {path}: no example could be exported")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)
    return count


def _packed(path: Path, file: BinaryIO) -> Any:
    """A stream into `file` that packs what the path's name says; closing it leaves `file` open."""
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if path.suffix.lower() == ".zst":
        import pyarrow as pa

        return pa.CompressedOutputStream(_Kept(file), "zstd")
    return _Kept(file)


class _Kept(io.RawIOBase):
    """A file that stays open when what writes into it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Pass on."""
        return self.file.write(data)


def _singles(example: Example) -> list[Example]:
    """A labelled example for each answer with a thumb; any other as it is."""
    if example.shape != "labelled":
        return [example]
    rated = [one for one in example.completions if one.label is not None]
    return [_with(example, one) for one in rated]


def _with(example: Example, answer: Completion) -> Example:
    tags, provenance = example.tags, example.provenance
    return Example(example.prompt, (answer,), None, example.tools, tags, provenance)
