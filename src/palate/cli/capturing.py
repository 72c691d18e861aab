"""`palate capture`: a proxy that keeps what passes through it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from palate.config import ConfigError
from palate.progress import reporter_for


def run_capture(
    settings: str | None, overrides: Sequence[str], flags: dict[str, Any], *, as_json: bool
) -> None:
    """Run the proxy until it is told to end, then say what came of what passed.

    `settings` is a YAML file, `flags` are settings of the same names that win over it where they
    are not None. Raises `ConfigError`.
    """
    try:
        from palate.web.capture.serve import serve
        from palate.web.capture.settings import load_settings
    except ImportError as error:
        raise ConfigError(f"capture needs {error.name}: pip install 'palate[web]'") from error
    config = load_settings(settings, overrides, flags)
    counts = serve(config, reporter_for().note)
    if as_json:
        typer.echo(json.dumps(counts, ensure_ascii=False))
    else:
        for line in summary(counts, config.db, config.spill):
            typer.echo(line)


def summary(counts: dict[str, Any], db: str, spill: str) -> list[str]:
    """What was captured and where it is, in words."""
    passed = f"captured {counts['captured']} exchanges and {counts['feedback']} feedback"
    lines = [f"{passed}: {counts['stored']} stored in {_place(db)}"]
    if counts["spilled"]:
        lines.append(f"{counts['spilled']} wait in {spill}, and are stored at the next start")
    if counts["lost"]:
        lines.append(f"{counts['lost']} lost")
    if counts["sampled_out"]:
        lines.append(f"{counts['sampled_out']} left out by sample")
    for what in ("rejected", "skipped"):
        if counts[what]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in counts[what].items())
            lines.append(f"{what}: {reasons}")
    return lines


def _place(db: str) -> str:
    """The store's file, or its URL without user and password."""
    scheme, colon, rest = db.partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}" if colon else db
