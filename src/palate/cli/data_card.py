"""`palate data card`: a page about a snapshot, or about what would become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.cli.targets import Target, open_target
from palate.config import DataConfig
from palate.progress import reporter_for

NAME = "data-card.html"


def run_data_card(
    target: str,
    overrides: Sequence[str] = (),
    *,
    out: str | None = None,
    model: str | None = None,
    shape: str | None = None,
    licence: str | None = None,
    examples: int | None = None,
) -> None:
    """Lint the target and write its page.

    `out` is the page's file; default: `data-card.html` in the run's folder, beside a snapshot's
    folder (which never changes) as `NAME.data-card.html`, else in the working folder. `model`
    brings lengths in tokens and the on-policy share; `examples` is how many the page quotes, 0
    for none and no excerpts either. Raises `ValueError` for what the user can mend, `OSError` if
    the page cannot be written.
    """
    from palate.cli.linting import lint_target
    from palate.evaluate.data_card import EXAMPLES, Card, write_data_card

    say = reporter_for()
    found = open_target(target, overrides, shape)
    asked, tokens = None, None
    if model is not None:
        from palate.cli.likelihood import open_model

        asked, tokens = open_model(model, say)
    report = lint_target(found, asked, tokens, say)
    card = Card(
        name=_name(found),
        target=target,
        train=found.train,
        heldout=found.heldout,
        rejects=found.rejects,
        funnel=found.funnel,
        report=report,
        split=found.manifest is not None or found.config is not None,
        content_hash=found.manifest.content_hash if found.manifest else None,
        settings=_settings(found),
        files=found.manifest.files if found.manifest else {},
        licence=licence,
        tokens=tokens,
        model=asked.name if asked else None,
        examples=EXAMPLES if examples is None else examples,
    )
    say.note(f"card  {write_data_card(_place(found, out), card)}")


def _name(found: Target) -> str:
    if found.config is not None:
        return found.config.name
    return (found.run or Path(found.name)).name or found.name


def _place(found: Target, out: str | None) -> Path:
    if out is not None:
        return Path(out).expanduser()
    if found.run is not None:
        return found.run / NAME
    if found.folder is not None:
        return found.folder.with_name(f"{found.folder.name}.{NAME}")
    return Path(NAME)


def _settings(found: Target) -> dict[str, Any]:
    """The data section that the examples were made with, as far as it is known."""
    if found.manifest is not None:
        settings = found.manifest.extra.get("settings")
        return dict(settings) if isinstance(settings, dict) else {}
    if found.config is not None:
        return found.config.data.model_dump(mode="json")
    return DataConfig(path=found.name, heldout=0).model_dump(mode="json")
