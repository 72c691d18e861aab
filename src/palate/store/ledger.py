"""Which snapshots were made of a store, which of them hold what was deleted, and their cleaning.

A snapshot is immutable for whoever learns from it; deletion is the one reason to write it anew.
A run that has learned from what was deleted is named and left: its weights know it too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from palate.curate.funnel import Funnel
from palate.durable import sync_folder
from palate.records import Example, Reject
from palate.store.adding import now
from palate.store.database import Store
from palate.store.erasing import Erased
from palate.store.schema import SNAPSHOT
from palate.store.snapshot import Manifest, Snapshot, read_snapshot, write_snapshot

Kind = Literal["snapshot", "run"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A snapshot that was made of the store, by itself or in a run's folder.

    `examples` is how many of its examples hold something erased, `rejects` how many of the rows
    that it lists as left out; `examples` is None where it cannot be read (`problem` says why).
    """

    folder: Path
    kind: Kind
    content_hash: str
    examples: int | None
    problem: str = ""
    rejects: int = 0


def register(
    store: Store, folder: Path, manifest: Manifest, kind: Kind, settings: Mapping[str, Any]
) -> None:
    """Note that the snapshot in `folder` was made of this store; the later note counts."""
    values = {
        "folder": str(folder.resolve()),
        "content_hash": manifest.content_hash,
        "kind": kind,
        "settings": json.dumps(settings, sort_keys=True),
        "made": now(),
    }
    with store.writing() as connection:
        connection.execute(sa.delete(SNAPSHOT).where(SNAPSHOT.c.folder == values["folder"]))
        connection.execute(sa.insert(SNAPSHOT).values(values))


def holders(store: Store, erased: Erased) -> list[Holder]:
    """All registered snapshots that hold an erased row, or that cannot be looked into."""
    with store.reading() as connection:
        known = connection.execute(sa.select(SNAPSHOT).order_by(SNAPSHOT.c.folder)).all()
    found = [_holder(row, erased) for row in known]
    return [one for one in found if one.examples != 0 or one.rejects]


def clean(store: Store, holder: Holder, erased: Erased) -> Manifest:
    """Write the snapshot anew without what was erased, in its old place, and note it.

    Every other example stays as it is, on its side of the split. The manifest's `extra` names
    the content hash of before.
    """
    folder = holder.folder
    before = read_snapshot(folder)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.clean")
    shutil.rmtree(fresh, ignore_errors=True)
    train, heldout = (_kept(side, erased) for side in (before.train, before.heldout))
    gone = len(before.train) + len(before.heldout) - len(train) - len(heldout)
    extra = {**before.manifest.extra, "erased": gone, "before": before.manifest.content_hash}
    rejects = [_emptied(reject, erased) for reject in before.rejects]
    funnel = Funnel.from_dict(before.manifest.funnel) if before.manifest.funnel else None
    manifest = write_snapshot(fresh, train, heldout, rejects, funnel, extra=extra)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(aside)
    fresh.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(aside)
    with store.reading() as connection:
        row = connection.execute(sa.select(SNAPSHOT).where(SNAPSHOT.c.folder == str(folder))).one()
    register(store, folder, manifest, row.kind, json.loads(row.settings))
    return manifest


def _holder(row: Any, erased: Erased) -> Holder:
    folder = Path(row.folder)
    if not folder.exists():
        return Holder(folder, row.kind, row.content_hash, 0)
    try:
        snapshot = read_snapshot(folder)
    except ValueError as error:
        return Holder(folder, row.kind, row.content_hash, None, str(error))
    listed = sum(_emptied(reject, erased) != reject for reject in snapshot.rejects)
    return Holder(folder, row.kind, row.content_hash, _count(snapshot, erased), rejects=listed)


def _count(snapshot: Snapshot, erased: Erased) -> int:
    return sum(_holds(example, erased) for example in (*snapshot.train, *snapshot.heldout))


def _holds(example: Example, erased: Erased) -> bool:
    return any(place.hash in erased.hashes for place in example.provenance)


def _kept(examples: list[Example], erased: Erased) -> list[Example]:
    return [example for example in examples if not _holds(example, erased)]


def _emptied(reject: Reject, erased: Erased) -> Reject:
    if (reject.source, reject.line) not in erased.places:
        return reject
    return replace(reject, excerpt="", example_id=None)
