"""Store: what is kept. A snapshot is the immutable input of a run."""

from palate.store.snapshot import Manifest, Snapshot, read_snapshot, write_snapshot

__all__ = ["Manifest", "Snapshot", "read_snapshot", "write_snapshot"]
