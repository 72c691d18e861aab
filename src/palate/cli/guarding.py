"""What `palate guard train` and `palate guard eval` do and show."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.config import ConfigError, RunConfig, load_config
from palate.progress import Reporter, reporter_for, speaks

if TYPE_CHECKING:
    from palate.guard.evaluation import Figures
    from palate.guard.settings import Goal


def run_guard_train(
    data: str,
    overrides: Sequence[str],
    *,
    recall: float | None,
    fpr: float | None,
    as_json: bool,
) -> None:
    """Train, calibrate and measure a guard, then show its figures."""
    say = reporter_for()
    say.note("loading …")
    from palate.cli.stop import Stopped, stop_signals
    from palate.guard.training import train_guard
    from palate.guard.wording import latency
    from palate.train.task import Interrupted

    goal = _goal(recall, fpr)
    config = _config(data, overrides)
    with stop_signals(say.note) as should_stop:
        try:
            trained = train_guard(config, goal, reporter=say, should_stop=should_stop)
        except Interrupted as stopped:
            raise Stopped(
                f"{stopped}; everything so far is saved. {_go_on(config, goal)}"
            ) from None
        except KeyboardInterrupt:
            raise Stopped(f"stopped at once. {_go_on(config, goal)}") from None
    if not speaks():
        return
    if as_json:
        typer.echo(json.dumps(trained.results, ensure_ascii=False))
        return
    show(trained.figures, "Held-out", say)
    say.note(latency(trained.results["latency"]))
    if trained.results["selected_on_heldout"]:
        say.note("train.best chose the weights on the same rows: the figures flatter a little")
    say.note(f"\nguard   {trained.folder}\npage    {trained.page}\n")
    say.note(f"next:   palate guard eval {shlex.quote(str(trained.folder))} MORE-LABELS.jsonl")


def run_guard_eval(guard: str, data: str, page: str | None, *, as_json: bool) -> None:
    """Measure a guard on labelled rows that it was not trained on."""
    say = reporter_for()
    say.note("loading …")
    from palate.cli.targets import open_target
    from palate.guard.measuring import evaluate_guard
    from palate.guard.wording import latency

    found = open_target(data, (), "labelled")
    measured = evaluate_guard(Path(guard), found.examples, Path(page) if page else None, say)
    if as_json:
        typer.echo(json.dumps(measured.to_dict(), ensure_ascii=False))
        return
    show(measured.figures, data, say)
    say.note(latency(measured.latency))
    for line in measured.remarks:
        say.note(line)
    if page:
        say.note(f"\npage    {page}")


def show(figures: Figures, title: str, say: Reporter) -> None:
    """The figures as tables, and what they would mean where unsafe messages are rare."""
    from palate.guard.wording import rare, rows, share

    say.table(title, ["", ""], [list(row) for row in rows(figures)])
    if figures.slices:
        body = [
            [one.tag, one.value or "(none)", share(one.recall), share(one.fpr)]
            for one in figures.slices
        ]
        say.table("Slices", ["tag", "value", "unsafe flagged", "safe flagged"], body)
    say.note(rare(figures))


def _goal(recall: float | None, fpr: float | None) -> Goal:
    from palate.guard.settings import Goal

    if recall is not None and fpr is not None:
        raise ConfigError("a threshold is chosen for one of --recall and --fpr")
    if fpr is not None:
        return Goal(recall=None, fpr=fpr)
    return Goal() if recall is None else Goal(recall=recall)


def _config(data: str, overrides: Sequence[str]) -> RunConfig:
    """The recipe that the words name, or the default one over their data."""
    from palate.guard.settings import default_recipe
    from palate.store.database import is_store

    if Path(data).suffix in {".yaml", ".yml"}:
        return load_config(data, overrides)
    known = is_store(data) or data.startswith(("hub:", "columns:")) or Path(data).exists()
    if not known:
        raise ConfigError(
            f"there is no {data}: name a store (palate.db), a file or folder of rows, or a recipe"
        )
    return default_recipe(data, overrides)


def _go_on(config: RunConfig, goal: Goal) -> str:
    recipe: Any = shlex.quote(str(config.folder / "config.yaml"))
    kept = f"--fpr {goal.fpr:g}" if goal.fpr is not None else f"--recall {goal.recall:g}"
    return f"Continue with:\n  palate guard train {recipe} resume=auto {kept}"
