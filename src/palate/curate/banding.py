"""Locality-sensitive hashing: which rows share a band of their signatures.

A signature is cut into bands of a few slots. Rows that agree in a whole band are candidates; with
`b` bands of `r` slots a pair of similarity s is one with probability 1 − (1 − sʳ)ᵇ (Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", 3.4). There are two places to keep what is
needed of the rows, with the same answers: `BandsInMemory`, and `BandsOnDisk`, where DuckDB joins
Parquet one band after another, so that neither the rows nor the bands must fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.curate.shingles import I64, SLOTS, U8, U32, U64, Sketches, mixed

CERTAINTY = 0.99
"""Smallest probability that a pair exactly at the threshold becomes a candidate."""
MEMORY_LIMIT = "1GB"
"""What DuckDB may hold before it spills to its temporary folder."""
SMALL = 64
"""Rows of a bucket up to which all of its pairs are candidates."""
NEAR = 8
"""Rows before a row with which it is compared in a larger bucket."""
_ROW_GROUP = 1 << 16
_FACTOR = np.uint64(0xD1B54A32D192ED03)


def bands_for(similarity: float) -> tuple[int, int]:
    """(bands, slots in each) for a threshold: the longest bands that keep `CERTAINTY`.

    Longer bands bring fewer candidates that turn out to be different.
    """
    for slots in range(SLOTS, 1, -1):
        bands = SLOTS // slots
        if 1 - (1 - similarity**slots) ** bands >= CERTAINTY:
            return bands, slots
    return SLOTS, 1


@dataclass(frozen=True, slots=True)
class Banded:
    """n rows of p texts as the join needs them.

    `content` [n], `shingles` and `lengths` [n, p] are those of `Sketches`; `keys` [n, bands] are
    the hashes of the bands; `low` [n, SLOTS] is the lowest byte of each slot, enough to estimate
    (Li and König 2010, "b-Bit minwise hashing").
    """

    content: U64
    keys: U64
    low: U8
    shingles: U32
    lengths: I64

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.content)


def banded(sketches: Sketches, bands: int, slots: int) -> Banded:
    """The rows in `bands` bands of `slots` slots each."""
    wide = sketches.slots.astype(np.uint64)
    keys = np.zeros((len(wide), bands), np.uint64)
    for band in range(bands):
        key = keys[:, band]
        for column in range(band * slots, (band + 1) * slots):
            key[:] = mixed(key * _FACTOR + wide[:, column])
    low = sketches.slots.astype(np.uint8)
    return Banded(sketches.content, keys, low, sketches.shingles, sketches.lengths)


def joined(parts: list[Banded]) -> Banded:
    """The parts one below the other."""
    each = ([getattr(part, field.name) for part in parts] for field in fields(Banded))
    return Banded(*map(np.concatenate, each))


class Shelf:
    """The texts of the rows as sets of shingles, and the estimates: in memory or in mapped files.

    `low` is that of `Banded`.
    """

    def __init__(self, low: U8, shingles: U32, lengths: I64) -> None:
        self.low, self._shingles = low, shingles
        self._parts = lengths.shape[1]
        self._starts = np.append(0, np.cumsum(lengths))

    def sets(self, row: int) -> list[set[int]]:
        """The shingles of each text of a row."""
        ends = self._starts[row * self._parts : (row + 1) * self._parts + 1].tolist()
        held = self._shingles[ends[0] : ends[-1]].tolist()
        return [set(held[begin - ends[0] : end - ends[0]]) for begin, end in pairwise(ends)]


class BandsInMemory:
    """All bands at once in arrays, for data of which that is a few megabytes."""

    def __init__(self, rows: Banded) -> None:
        self.shelf = Shelf(rows.low, rows.shingles, rows.lengths)
        order = np.argsort(rows.content, kind="stable")
        begins = _begins(rows.content[order])
        first = np.empty(len(rows), np.int64)
        first[order] = order[begins][np.cumsum(begins) - 1]
        alive = first == np.arange(len(rows))
        self._other = np.flatnonzero(~alive)
        self._first = first[self._other]
        self._alive = np.flatnonzero(alive)
        self._keys, self._content = rows.keys, rows.content

    def twins(self) -> tuple[I64, I64]:
        """(the first row of a content, another row of the same), for each other row."""
        return self._first, self._other

    def buckets(self, band: int) -> tuple[U64, I64]:
        """(key, row) of rows that share their key of this band, ordered by key and content.

        Of rows with the same content only the first is here.
        """
        keys = self._keys[self._alive, band]
        order = np.lexsort((self._content[self._alive], keys))
        keys = keys[order]
        begins = _begins(keys)
        alone = begins & np.append(begins[1:], True)
        return keys[~alone], self._alive[order][~alone]

    def finish(self) -> None:
        """Nothing is open."""


def _begins(ordered: U64) -> NDArray[np.bool_]:
    """True where a value differs from the one before."""
    return np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]


class BandsOnDisk:
    """Bands in a Parquet file that DuckDB joins, the rest in mapped files; see `BandsInMemory`.

    Rows are appended with `add`; `close` ends that, and then the questions can be asked.
    """

    def __init__(self, folder: Path, bands: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._names = [f"b{band}" for band in range(bands)]
        columns = [("id", pa.int64()), ("content", pa.uint64())]
        schema = pa.schema(columns + [(name, pa.uint64()) for name in self._names])
        self._folder, self._parquet = folder, folder / "bands.parquet"
        # Hashes do not compress, and no two are alike.
        options: dict[str, Any] = {"compression": "none", "use_dictionary": False}
        self._writer = pq.ParquetWriter(self._parquet, schema, **options)
        self._files = {name: (folder / name).open("wb") for name in ("low", "shingles")}
        self._lengths: list[I64] = []
        self._waiting: list[tuple[U64, U64]] = []
        self.written = 0

    def add(self, rows: Banded) -> None:
        """Append rows."""
        rows.low.tofile(self._files["low"])
        rows.shingles.tofile(self._files["shingles"])
        self._lengths.append(rows.lengths)
        self._waiting.append((rows.content, rows.keys))  # without the shingles, which are written
        if sum(len(content) for content, _ in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        content = np.concatenate([content for content, _ in self._waiting])
        keys = np.concatenate([keys for _, keys in self._waiting])
        self._waiting = []
        arrays = {"id": np.arange(self.written, self.written + len(content)), "content": content}
        arrays |= {name: keys[:, band] for band, name in enumerate(self._names)}
        self._writer.write_table(pa.table(arrays), row_group_size=_ROW_GROUP)
        self.written += len(content)

    def close(self) -> None:
        """End the writing and open the join."""
        import duckdb

        self._flush()
        self._writer.close()
        for file in self._files.values():
            file.close()
        low: U8 = np.memmap(self._folder / "low", np.uint8, "r", shape=(self.written, SLOTS))
        shingles: U32 = np.memmap(self._folder / "shingles", np.uint32, "r")
        self.shelf = Shelf(low, shingles, np.concatenate(self._lengths))
        settings: dict[str, Any] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(self._folder / "spill"),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._join = duckdb.connect(config=settings)
        place = str(self._parquet).replace("'", "''")
        self._join.execute(f"CREATE VIEW bands AS FROM read_parquet('{place}')")
        self._join.execute(
            "CREATE TEMP TABLE twins AS "
            "WITH same AS (SELECT content, min(id) AS first FROM bands GROUP BY content "
            "HAVING count(*) > 1) "
            "SELECT first, id FROM bands JOIN same USING (content) WHERE id <> first"
        )

    def twins(self) -> tuple[I64, I64]:
        """As of `BandsInMemory`."""
        found = self._join.execute("SELECT first, id FROM twins ORDER BY id").fetchnumpy()
        return np.asarray(found["first"]), np.asarray(found["id"])

    def buckets(self, band: int) -> tuple[U64, I64]:
        """As of `BandsInMemory`."""
        found = self._join.execute(
            f"WITH one AS (SELECT {self._names[band]} AS key, content, id FROM bands "  # noqa: S608 - our own column names
            "ANTI JOIN twins USING (id)), "
            "many AS (SELECT key FROM one GROUP BY key HAVING count(*) > 1) "
            "SELECT key, id FROM one SEMI JOIN many USING (key) ORDER BY key, content"
        ).fetchnumpy()
        return np.asarray(found["key"]), np.asarray(found["id"])

    def finish(self) -> None:
        """Close the join and the files; the folder may then be removed."""
        self._join.close()
        del self.shelf


def pairs(keys: U64, rows: I64) -> Iterator[tuple[I64, I64]]:
    """The candidate pairs of one band's buckets, many at a time.

    All pairs of a bucket of up to `SMALL` rows. In a larger one, which would bring too many, each
    row is set against the bucket's first and the `NEAR` before it, in the order of contents:
    what is alike there is alike with the first, or finds its likes over other bands.
    """
    if not len(rows):
        return
    begins = _begins(keys)
    starts = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    size = np.diff(np.append(starts, len(rows)))[group]
    place = np.arange(len(rows)) - starts[group]
    far = np.flatnonzero((size > SMALL) & (place > NEAR))
    if len(far):
        yield rows[starts[group[far]]], rows[far]
    for step in range(1, SMALL):
        at = np.flatnonzero((place >= step) & ((size <= SMALL) | (step <= NEAR)))
        if not len(at):
            return
        yield rows[at - step], rows[at]
