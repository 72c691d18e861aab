"""Events that people may change: another word takes the place of one, taking it back empties it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from palate.store.database import Store
from palate.store.schema import EVENT, INTERACTION

_CHANGING = ("kind", "said", "by_whom", "time", "source", "line", "hash", "erased")


def replace_events(
    store: Store, connection: sa.Connection, rows: Sequence[dict[str, Any]], gone: str
) -> None:
    """Write events of one interaction in the place of what is there under the same ids.

    Raises `ValueError` with the words `gone` if the interaction is not there (any more).
    """
    from sqlalchemy.dialects import postgresql, sqlite

    there = sa.select(INTERACTION.c.id).where(
        INTERACTION.c.id == rows[0]["interaction"], INTERACTION.c.erased.is_(None)
    )
    if connection.execute(there).first() is None:
        raise ValueError(gone)
    insert = (sqlite.insert if store.is_sqlite else postgresql.insert)(EVENT)
    values = {name: insert.excluded[name] for name in _CHANGING}
    replacing = insert.on_conflict_do_update(index_elements=[EVENT.c.id], set_=values)
    connection.execute(replacing, rows)


def empty_events(connection: sa.Connection, keys: Sequence[str], time: str) -> int:
    """Leave tombstones without words, and say how many events that were."""
    emptied = {"said": None, "by_whom": None, "hash": None, "erased": time}
    there = EVENT.c.id.in_(keys), EVENT.c.erased.is_(None)
    return connection.execute(sa.update(EVENT).where(*there).values(**emptied)).rowcount
