"""ship.json: what was shipped, made of what, measured how."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate.durable import MARK, file_hash
from palate.ship.built import Seen
from palate.ship.origin import Base
from palate.ship.parity import Parity
from palate.ship.source import Source
from palate.train.folder import package_versions

VERSION = 1


def ship_record(
    source: Source,
    base: Base,
    what: dict[str, Any],
    parity: Parity,
    seen: Seen | None,
    folder: Path,
) -> dict[str, Any]:
    """The ship card as JSON.

    `what` says what the export is; `seen` how the serving runtime encodes texts, None where it
    reads the trainer's own tokenizer.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MARK)
    return {
        "version": VERSION,
        "export": what,
        "run": source.config.name,
        "base": {**asdict(base), "sha256": source.plan.base_sha256 if source.plan else None},
        "method": source.results.get("method"),
        "papers": papers(source),
        "config_sha256": file_hash(source.folder / "config.yaml"),
        "data": data_facts(source),
        "figures": {
            key: source.results[key]
            for key in ("heldout", "comparison", "rollouts", "training", "best_step")
            if source.results.get(key) is not None
        },
        "parity": parity.to_dict(),
        "tokenisation": asdict(seen) if seen else None,
        "gate": gate_of(source.folder),
        "versions": {"training": _trained_with(source.folder), "export": package_versions()},
        "files": {path.name: path.stat().st_size for path in files},
    }


def data_facts(source: Source) -> dict[str, Any]:
    """The data, from the snapshot's manifest: its hash, counts and sources."""
    settings = source.manifest.extra.get("settings")
    path = settings.get("path") if isinstance(settings, dict) else None
    return {
        "content_hash": source.manifest.content_hash,
        "rows": source.manifest.rows,
        "rejected": source.manifest.rejected,
        "funnel": source.manifest.funnel.get("line"),
        "sources": [path] if isinstance(path, str) else list(path or ()),
    }


def papers(source: Source) -> list[str]:
    """The published sources of the recipe's losses, one for each term of a sum."""
    from palate.losses.registry import lookup

    entries = source.config.method
    names = [str(e["name"]) for e in (entries if isinstance(entries, list) else [entries])]
    return [f"{lookup(name).title}: {lookup(name).paper}" for name in names]


def gate_of(folder: Path) -> Any:
    """The gate's verdict in evaluation/report.json; None where the run was not evaluated."""
    found = _json(folder / "evaluation" / "report.json")
    return found.get("gate") if isinstance(found, dict) else None


def _trained_with(folder: Path) -> dict[str, str]:
    found = _json(folder / "environment.json")
    versions = found.get("versions") if isinstance(found, dict) else None
    return versions if isinstance(versions, dict) else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
