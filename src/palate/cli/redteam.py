"""`palate redteam`: attack a model, count needless refusals beside it, and write pairs."""

from __future__ import annotations

import json as jsonlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.speaking import open_speaker
from palate.config import ConfigError
from palate.progress import reporter_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palate.redteam.deciding import Decider

NOT_PASSED = 3


def run_redteam(
    model: str,
    out: str,
    words: Sequence[str],
    *,
    benign: str | None,
    against: str | None,
    as_json: bool,
) -> None:
    """Measure and show; exit code 3 where the model does not pass."""
    from palate.cli.stop import Stopped
    from palate.redteam.measure import (
        ATTACKS,
        BENIGN,
        RedteamSettings,
        benign_prompts,
        categories_of,
        measure,
        read_rows,
    )
    from palate.redteam.page import show, write_page
    from palate.speak.settings import read_settings

    say = reporter_for()
    settings = read_settings(RedteamSettings, words)
    categories_of(settings)
    asked = benign_prompts(benign, settings.limit)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    old = Path(against) if against else None
    if old is not None and old.resolve() == folder.resolve():
        raise ConfigError("a model is compared with another folder than its own: change -o")
    try:
        with open_decider(settings) as decider:
            summary = measure(
                open_speaker(model, settings.server, say),
                decider,
                settings,
                folder,
                benign=asked,
                against=old,
                say=say,
            )
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what was done is in {folder}: the same command goes on") from None
    write_page(summary, read_rows(folder / ATTACKS), read_rows(folder / BENIGN), folder)
    show(summary, folder, say)
    if as_json:
        typer.echo(jsonlib.dumps(summary, ensure_ascii=False))
    if not summary["verdict"]["passed"]:
        raise Stopped("", NOT_PASSED)


@contextmanager
def open_decider(settings: Any) -> Iterator[Decider]:
    """The judge that the settings name, closed after use; else the rule for refusals."""
    from palate.redteam.deciding import RUBRIC, ByJudge, ByRule

    if settings.judge is None:
        yield ByRule()
        return
    from palate.judge.build import build_scorer, identity
    from palate.sections.judging import LOG_ODDS

    config = settings.judge
    if config.kind in LOG_ODDS:
        raise ConfigError(
            f"scores of kind {config.kind} know no border between safe and unsafe: use kind llm, "
            "local or rule"
        )
    if config.kind in {"llm", "local"} and config.rubric is None:
        config = config.model_copy(update={"rubric": RUBRIC})
    with build_scorer(config) as scorer:
        yield ByJudge(scorer, identity(config)[:8])
