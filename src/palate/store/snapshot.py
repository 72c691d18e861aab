"""Snapshots: the immutable Parquet that a run learns from, with a manifest that proves it.

A folder holds `train.parquet`, `heldout.parquet`, `rejects.jsonl` and `manifest.json`. It
appears whole or not at all, and is never written over with something else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.durable import file_hash, make_folder, sync_folder
from palate.records import Example, Reject, canonical_json
from palate.store.columns import read_parquet, write_parquet

if TYPE_CHECKING:
    from palate.curate.funnel import Funnel

VERSION = 1
MANIFEST = "manifest.json"
_TRAIN, _HELDOUT, _REJECTS = "train.parquet", "heldout.parquet", "rejects.jsonl"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds.

    `content_hash` is SHA-256 over the canonical JSON of the train and the held-out records in
    their order: equal data gives an equal hash, whatever wrote the Parquet. `files` maps each
    file to the SHA-256 of its bytes; `extra` is the caller's.
    """

    rows: dict[str, int]
    rejected: dict[str, int]
    funnel: dict[str, Any]
    content_hash: str
    files: dict[str, str]
    extra: dict[str, Any]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that has been read and verified."""

    train: list[Example]
    heldout: list[Example]
    rejects: list[Reject]
    manifest: Manifest


def write_snapshot(
    folder: Path | str,
    train: Sequence[Example],
    heldout: Sequence[Example],
    rejects: Sequence[Reject] = (),
    funnel: Funnel | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write a snapshot and return its manifest.

    Writing the same records again is allowed and changes nothing. Raises `ValueError` if
    `folder` already holds something else, `OSError` if it cannot be written.
    """
    folder = Path(folder)
    content = content_hash(train, heldout)
    if folder.exists() and any(folder.iterdir()):
        return _existing(folder, content)
    make_folder(folder.parent)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        write_parquet(partial / _TRAIN, train)
        write_parquet(partial / _HELDOUT, heldout)
        _write(partial / _REJECTS, "".join(f"{_line(reject.to_dict())}\n" for reject in rejects))
        manifest = Manifest(
            rows={"train": len(train), "heldout": len(heldout), "rejects": len(rejects)},
            rejected=dict(Counter(reject.reason for reject in rejects).most_common()),
            funnel=funnel.to_dict() if funnel else {},
            content_hash=content,
            files={name: file_hash(partial / name) for name in (_TRAIN, _HELDOUT, _REJECTS)},
            extra=dict(extra or {}),
        )
        body = asdict(manifest)
        seal = hashlib.sha256(_line(body).encode()).hexdigest()
        _write(partial / MANIFEST, json.dumps({**body, "seal": seal}, indent=2) + "\n")
        sync_folder(partial)
        if folder.exists():
            folder.rmdir()  # empty: os.replace would refuse it on Windows
        partial.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def remove_partial(folder: Path) -> None:
    """Remove what a crash left of writing `folder`; for who knows that nobody writes it now."""
    for partial in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def read_snapshot(folder: Path | str) -> Snapshot:
    """The snapshot in `folder`; `ValueError` if it is missing, incomplete or has been changed."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, checksum in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"the snapshot {folder} lacks {name}: prepare the data again")
        if file_hash(path) != checksum:
            raise ValueError(
                f"{path} is not what was written (its checksum differs): prepare the data again"
            )
    train, heldout = read_parquet(folder / _TRAIN), read_parquet(folder / _HELDOUT)
    if content_hash(train, heldout) != manifest.content_hash:
        raise ValueError(
            f"the records in {folder} do not match the manifest's content hash: prepare the data "
            "again"
        )
    lines = (folder / _REJECTS).read_text(encoding="utf-8").splitlines()
    return Snapshot(train, heldout, [Reject(**json.loads(line)) for line in lines], manifest)


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest alone, checked against its own seal."""
    path = Path(folder) / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        seal = raw.pop("seal")
        manifest = Manifest(**raw)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is not a snapshot: it has no {MANIFEST}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the data again") from error
    if hashlib.sha256(_line(raw).encode()).hexdigest() != seal:
        raise ValueError(f"{path} has been changed since it was written: prepare the data again")
    return manifest


def content_hash(train: Sequence[Example], heldout: Sequence[Example]) -> str:
    """SHA-256 over the canonical JSON of all records in their order, one line each."""
    total = hashlib.sha256()
    for side, examples in (("train", train), ("heldout", heldout)):
        for example in examples:
            total.update(f"{side} {canonical_json(example.to_dict())}\n".encode())
    return total.hexdigest()


def _existing(folder: Path, content: str) -> Manifest:
    manifest = read_manifest(folder)
    if manifest.content_hash != content:
        raise ValueError(
            f"{folder} holds another snapshot, and snapshots are never written over: name "
            "another folder, or remove it"
        )
    return manifest


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
