"""`palate train` and `palate quickstart`."""

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
    from palate.run import Run

# What `--smoke` changes: everything is exercised, nothing is learned.
SMOKE = (
    "train.max_steps=3",
    "train.eval_every=2",
    "train.batch_size=4",
    "data.max_pairs=24",
    "evaluate.samples=8",
    "evaluate.max_new_tokens=24",
)


def run_train(recipe: str, overrides: Sequence[str], *, as_json: bool) -> None:
    """Train as the recipe says, then show what came out."""
    from palate.cli.stop import one_voice

    with one_voice():
        config = load_config(recipe, overrides)
    _train_and_show(config, as_json=as_json)


def run_quickstart(overrides: Sequence[str], *, smoke: bool, as_json: bool) -> None:
    """The support desk's recipe, with its files wherever they were installed."""
    desk = support_desk()
    places = [
        f"data.path={json.dumps(str(desk / 'traffic.jsonl'))}",
        f"evaluate.rule={json.dumps(str(desk / 'rules.py') + ':house_rules')}",
    ]
    settings = [*places, *(SMOKE if smoke else ()), *overrides]
    _train_and_show(load_config(desk / "recipe.yaml", settings), as_json=as_json)


def support_desk() -> Path:
    """The example's folder: inside the installed package, or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_examples", package.parents[1] / "examples"):
        if (folder / "support_desk" / "recipe.yaml").is_file():
            return folder / "support_desk"
    raise ConfigError("the example support_desk is not installed: use a wheel or a checkout")


def _train_and_show(config: RunConfig, *, as_json: bool) -> None:
    say = reporter_for()
    say.note("loading …")
    from palate.cli.stop import Stopped, stop_signals
    from palate.run import train
    from palate.train.parallel import PeerFailed
    from palate.train.task import Interrupted

    with stop_signals(say.note) as should_stop:
        try:
            run = train(config, reporter=say, should_stop=should_stop)
        except Interrupted as stopped:
            raise Stopped(
                f"{stopped}; everything so far is saved. {_how_to_go_on(config)}"
            ) from None
        except PeerFailed as failed:
            raise Stopped(str(failed), 2) from None
        except KeyboardInterrupt:
            raise Stopped(f"stopped at once. {_how_to_go_on(config)}") from None
    if not speaks():
        return
    if as_json:
        typer.echo(json.dumps(run.results, ensure_ascii=False))
    else:
        show(run, say)


def _how_to_go_on(config: RunConfig) -> str:
    recipe = config.folder / "config.yaml"
    return f"Continue with:\n  palate train {shlex.quote(str(recipe))} resume=auto"


def show(run: Run, say: Reporter) -> None:
    """The summary at the end: what came out, where it is, what to do next."""
    from palate.losses.registry import method_of

    results, (method, _) = run.results, method_of(run.config)
    what = (
        "answers judged as by their thumbs" if method.shape == "labelled" else "pairs ranked right"
    )
    rows = _heldout_rows(results["heldout"], what) + _comparison_rows(results["comparison"])
    if rows:
        say.table("Held-out", ["", "before", "after", "change"], rows)
    training = results["training"]
    say.note(
        f"{training['steps']} steps in {training['seconds']:.0f} s · "
        f"{training['pairs_per_second']:.2f} examples/s · {training['sharing']:.1f}x fewer tokens "
        "computed than without sharing"
    )
    say.note(f"\nmodel   {run.model}\nreport  {run.report}\n")
    next_steps = ["palate train my.yaml   (palate init)"]
    if method.head == "own":  # a reward model has nothing to say
        folder = shlex.quote(str(run.folder))
        next_steps = [f"palate eval {folder}", f"palate chat {folder}", *next_steps]
    say.note("next:   " + "\n        ".join(next_steps))


def _heldout_rows(heldout: dict[str, Any] | None, what: str) -> list[list[str]]:
    if not heldout or "accuracy" not in heldout:
        return []
    low, high = heldout["accuracy_interval"]
    said = f"{heldout['accuracy']:.0%} [{low:.0%}, {high:.0%}]"
    return [[f"{what} (of {heldout['n']})", "", said, ""]]


def _comparison_rows(comparison: dict[str, Any] | None) -> list[list[str]]:
    if not comparison:
        return []
    before, after = comparison["before"], comparison["after"]
    rows = []
    if comparison["difference"] is not None:
        change, (low, high) = comparison["difference"], comparison["difference_interval"]
        rows.append(
            [
                f"answers that follow the rule (of {after['answers']})",
                _share(before),
                _share(after),
                f"{100 * change:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]",
            ]
        )
    for name, key, change in (
        ("mean length, words", "words", comparison["words_change"]),
        ("mean length, tokens", "tokens", comparison["tokens_change"]),
    ):
        said = "" if change is None else f"{change:+.0%}"
        rows.append([name, f"{before[key]:.1f}", f"{after[key]:.1f}", said])
    rows.append(["answers that end", f"{before['finished']:.0%}", f"{after['finished']:.0%}", ""])
    if before["distinct_2"] is not None and after["distinct_2"] is not None:
        rows.append(
            ["distinct word pairs", f"{before['distinct_2']:.2f}", f"{after['distinct_2']:.2f}", ""]
        )
    if comparison["kl"] is not None:
        error = comparison["kl_error"]
        tail = f" ± {error:.2f}" if error is not None else ""
        rows.append(["KL, nats an answer", "0", f"{comparison['kl']:.2f}{tail}", ""])
    return rows


def _share(stage: dict[str, Any]) -> str:
    low, high = stage["interval"]
    return f"{stage['share']:.0%} [{low:.0%}, {high:.0%}]"
