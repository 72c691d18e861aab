"""Snapshots and runs: what was made of the store, and the funnel of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from palate.curate.funnel import Funnel
from palate.store.database import Store
from palate.store.schema import SNAPSHOT
from palate.store.snapshot import MANIFEST, Manifest, read_manifest
from palate.ui.data.excerpts import excerpt

_REJECTS = "rejects.jsonl"
_LISTED = 50  # dropped rows of a page


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot on this machine. `key` names it in addresses; `folder` is where it lies.

    `run` is the run's folder, where it is a run's; `of_store` whether the store knows that it was
    made of it.
    """

    key: str
    name: str
    folder: Path
    run: Path | None
    made: str | None
    of_store: bool

    @property
    def target(self) -> Path:
        """What the command line calls it."""
        return self.run or self.folder


def held(store: Store, runs: Path) -> list[Held]:
    """Those that the store knows, the latest first, then those of other runs, by name."""
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(SNAPSHOT.c.folder, SNAPSHOT.c.made).order_by(
                SNAPSHOT.c.made.desc(), SNAPSHOT.c.folder
            )
        ).all()
    found = {row.folder: _held(Path(row.folder), runs, row.made, of_store=True) for row in rows}
    for manifest in sorted(_in_runs(runs)):
        folder = manifest.parent.resolve()
        found.setdefault(str(folder), _held(folder, runs, None, of_store=False))
    return list(found.values())


def find(store: Store, runs: Path, key: str) -> Held | None:
    """The one of that key, if there is one."""
    return next((one for one in held(store, runs) if one.key == key), None)


def funnel(one: Held) -> dict[str, Any]:
    """Steps and what each dropped, or the ``problem`` why it cannot be read; JSON-ready."""
    facts: dict[str, Any] = {
        "key": one.key,
        "name": one.name,
        "folder": str(one.target),
        "is_run": one.run is not None,
        "of_store": one.of_store,
        "made": one.made,
        "problem": "",
        "steps": [],
    }
    if not (one.folder / MANIFEST).is_file():
        return facts | {"problem": "it is not there any more"}
    try:
        manifest = read_manifest(one.folder)
        steps = _steps(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        return facts | {"problem": " ".join(str(error).split())}
    return facts | {
        "steps": steps,
        "line": Funnel.from_dict(manifest.funnel).line() if manifest.funnel else "",
        "rows": manifest.rows,
        "content_hash": manifest.content_hash,
        "erased": manifest.extra.get("erased", 0),
    }


def dropped(one: Held, reason: str, page: int) -> dict[str, Any]:
    """The rows that were dropped under a reason, a page of them; JSON-ready."""
    listed: list[dict[str, Any]] = []
    total = 0
    for number, row in enumerate(_dropped(one.folder / _REJECTS, reason)):
        total += 1
        if page * _LISTED <= number < (page + 1) * _LISTED:
            shown = orjson.loads(row)
            shown["excerpt"] = "".join(p["text"] for p in excerpt([shown["excerpt"]], ""))
            listed.append(shown)
    about = {"key": one.key, "name": one.name, "reason": reason, "page": page, "total": total}
    return {**about, "rows": listed, "more": (page + 1) * _LISTED < total}


def _dropped(path: Path, reason: str) -> Iterator[bytes]:
    """Lines of the file under that reason; only those that may be are parsed."""
    wanted = json.dumps(reason).encode()
    try:
        with path.open("rb") as handle:
            for line in handle:
                if wanted in line and orjson.loads(line).get("reason") == reason:
                    yield line
    except (OSError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{path.name} of {path.parent} cannot be read: {error}") from error


def _steps(manifest: Manifest) -> list[dict[str, Any]]:
    if not manifest.funnel:
        return []
    stages = Funnel.from_dict(manifest.funnel).stages
    return [
        {
            "name": stage.name,
            "count": stage.count,
            "unit": stage.unit,
            "dropped": dict(stage.dropped),
            "note": stage.note,
        }
        for stage in stages
    ]


def _in_runs(runs: Path) -> Iterator[Path]:
    """Manifests of runs, and of the stages of runs."""
    yield from runs.glob(f"*/snapshot/{MANIFEST}")
    yield from runs.glob(f"*/*/snapshot/{MANIFEST}")


def _held(folder: Path, runs: Path, made: str | None, *, of_store: bool) -> Held:
    run = folder.parent if folder.name == "snapshot" else None
    place = run or folder
    root = runs.resolve()
    name = str(place.relative_to(root)) if place.is_relative_to(root) else place.name
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Held(key, name, folder, run, made, of_store)
