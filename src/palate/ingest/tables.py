"""Columnar files: Parquet and Arrow, a few hundred rows in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from palate.ingest.errors import IngestError
from palate.ingest.text_rows import Raw

TABLE_ROWS = 256  # of a columnar file that are Python objects at a time


def table_rows(path: Path, kind: str) -> Iterator[Raw]:
    """The rows of a file of that kind; `IngestError` says after which row it cannot be read."""
    import pyarrow as pa

    row = 0
    try:
        for batch in _KINDS[kind](path):
            for at in range(0, batch.num_rows, TABLE_ROWS):
                for value in _in_microseconds(batch.slice(at, TABLE_ROWS)).to_pylist():
                    row += 1
                    yield Raw(row, value)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        why = next(iter(str(error).splitlines()), "")
        raise IngestError(f"cannot read {path} after row {row}: {why}") from error


def _in_microseconds(batch: Any) -> Any:
    """The batch with its times cut to what Python has: pandas writes nanoseconds."""
    import pyarrow as pa

    types = [_coarser(field.type) for field in batch.schema]
    if types == batch.schema.types:
        return batch
    schema = pa.schema([field.with_type(t) for field, t in zip(batch.schema, types, strict=True)])
    return pa.Table.from_batches([batch]).cast(schema, safe=False)


def _coarser(known: Any) -> Any:
    """The Arrow type with microseconds in place of nanoseconds, at whatever depth."""
    import pyarrow as pa

    coarser = known
    if getattr(known, "unit", None) == "ns":
        if pa.types.is_timestamp(known):
            coarser = pa.timestamp("us", known.tz)
        else:
            coarser = pa.duration("us") if pa.types.is_duration(known) else pa.time64("us")
    elif pa.types.is_struct(known):
        coarser = pa.struct([field.with_type(_coarser(field.type)) for field in known])
    elif pa.types.is_list(known) or pa.types.is_large_list(known):
        listed = pa.list_ if pa.types.is_list(known) else pa.large_list
        coarser = listed(known.value_field.with_type(_coarser(known.value_type)))
    return coarser


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=TABLE_ROWS)


def _arrow(path: Path) -> Iterator[Any]:
    """Batches of Arrow's IPC format: a file (Feather too), or a stream, as `datasets` writes it."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
        else:
            yield from (file.get_batch(index) for index in range(file.num_record_batches))


_KINDS: dict[str, Callable[[Path], Iterator[Any]]] = {"parquet": _parquet, "arrow": _arrow}
TABLES = frozenset(_KINDS)
