"""Prepared data into a snapshot, noted in the stores that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palate.config import DataConfig
from palate.store.database import Store
from palate.store.judged import stores_of
from palate.store.ledger import Kind, register
from palate.store.snapshot import Manifest, write_snapshot

if TYPE_CHECKING:
    from palate.curate.prepare import Prepared


def freeze(folder: Path, prepared: Prepared, data: DataConfig, kind: Kind) -> Manifest:
    """Write the snapshot of what `data` gave; raises as `write_snapshot` does."""
    manifest = write_snapshot(
        folder,
        prepared.train,
        prepared.heldout,
        prepared.rejects,
        prepared.funnel,
        extra={"settings": data.model_dump(mode="json")},
    )
    for place in stores_of(data):
        with Store.open(place, create=False) as store:
            register(store, folder, manifest, kind, data.model_dump(mode="json"))
    return manifest
