"""Where the store's rows come from, and the counts of what each source gave."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from palate.records import Reject
from palate.store.adding import now
from palate.store.database import Store
from palate.store.schema import REJECT, SOURCE


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or another origin. `completed` is None while it is read, or where that ended."""

    id: int
    name: str
    sha256: str | None
    began: str
    completed: str | None
    summary: dict[str, Any] | None


def open_source(store: Store, name: str, sha256: str | None = None) -> Source:
    """The source of that content, or by that name; a new one if there is none.

    A file's content decides: a copy under another name is the same source.
    """
    same = SOURCE.c.sha256 == sha256 if sha256 is not None else SOURCE.c.name == name
    query = sa.select(SOURCE).where(same).order_by(SOURCE.c.id)
    with store.reading() as connection:
        found = connection.execute(query).first()
    if found is not None:
        return _source(found)
    with store.writing() as connection:
        found = connection.execute(query).first()  # another program may have come first
        if found is None:
            values = {"name": name, "sha256": sha256, "began": now()}
            inserted = connection.execute(sa.insert(SOURCE).values(values))
            assert inserted.inserted_primary_key is not None
            found = connection.execute(
                sa.select(SOURCE).where(SOURCE.c.id == inserted.inserted_primary_key[0])
            ).one()
    return _source(found)


def complete_source(store: Store, source: int, summary: dict[str, Any]) -> None:
    """Note that all of the source has been read, and what it gave."""
    with store.writing() as connection:
        connection.execute(
            sa.update(SOURCE)
            .where(SOURCE.c.id == source)
            .values(completed=now(), summary=json.dumps(summary, sort_keys=True))
        )


def sources(store: Store) -> list[Source]:
    """All sources, in the order in which they came."""
    with store.reading() as connection:
        found = connection.execute(sa.select(SOURCE).order_by(SOURCE.c.id)).all()
    return [_source(row) for row in found]


def add_rejects(store: Store, source: int, rejects: Iterable[Reject]) -> None:
    """Keep where refused rows stood, and under which reason; not their text."""
    values = [{"source": source, "line": r.line, "reason": r.reason} for r in rejects]
    if values:
        with store.writing() as connection:
            connection.execute(store.upsert(REJECT), values)


def _source(row: Any) -> Source:
    summary = json.loads(row.summary) if row.summary else None
    return Source(row.id, row.name, row.sha256, row.began, row.completed, summary)
