"""What a recipe's `data.path` names, read: files, hub data sets and stores alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import sqlalchemy as sa

from palate.config import DataConfig
from palate.curate.prepare import from_files
from palate.curate.rejects import OnReject
from palate.curate.signals import Judged
from palate.records import Reject
from palate.store.database import Store, is_store
from palate.store.reading import stored
from palate.store.schema import EVENT, SOURCE


def read_judged(config: DataConfig, on_reject: OnReject) -> Iterable[Judged]:
    """Interactions with the signals about them, of all places in their order.

    A store is opened and not made: `StoreError` if it is not there.
    """
    places = [config.path] if isinstance(config.path, str) else list(config.path)
    files = [place for place in places if not is_store(place)]
    parts: list[Iterable[Judged]] = []
    if files:
        parts.append(from_files(config.model_copy(update={"path": files}), on_reject))
    parts += [_from_store(place, on_reject) for place in places if is_store(place)]
    return chain.from_iterable(parts)


def stores_of(config: DataConfig) -> list[str]:
    """The stores among the places of `data.path`."""
    places = [config.path] if isinstance(config.path, str) else config.path
    return [place for place in places if is_store(place)]


def _from_store(place: str, on_reject: OnReject) -> Iterator[Judged]:
    with Store.open(place, create=False) as store:
        for one in stored(store):
            yield Judged(one.example, one.signals)
        waiting = (
            sa.select(SOURCE.c.name, EVENT.c.line, EVENT.c.kind)
            .join(SOURCE, SOURCE.c.id == EVENT.c.source)
            .where(EVENT.c.interaction.is_(None), EVENT.c.erased.is_(None))
            .order_by(EVENT.c.source, EVENT.c.line, EVENT.c.id)
        )
        with store.reading() as connection:
            for name, line, kind in connection.execute(waiting):
                detail = f"the {kind} is about an interaction that has not come yet"
                on_reject(Reject(name, line, "no-such-answer", detail))
