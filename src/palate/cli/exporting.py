"""`palate export`: a finished run as something that other programs load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.runs import run_config, run_folder
from palate.config import ConfigError
from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.ship.export import Exported

NOT_FAITHFUL = 3


def run_export(run: str, out: str | None, wishes: dict[str, Any], *, as_json: bool) -> None:
    """Export, measure and show; exit code 3 where the result is not the trained model."""
    say = reporter_for()
    folder = _finished(Path(run))
    say.note(f"reading {folder} …")
    from palate.cli.stop import Stopped
    from palate.machine import tune_allocator
    from palate.ship.export import Wish, export
    from palate.ship.parity import NotFaithful

    tune_allocator()
    try:
        done = export(folder, Wish(**wishes), Path(out) if out else None, reporter=say)
    except NotFaithful as error:
        raise Stopped(f"not faithful: {error}", NOT_FAITHFUL) from None
    if as_json:
        typer.echo(json.dumps(done.record, ensure_ascii=False))
    else:
        show(done, say)


def _finished(run: Path) -> Path:
    """The folder of a finished run; of one with stages, its last stage's."""
    run_config(run)  # says what is there where this is no run
    if not (run / "results.json").is_file():
        raise ConfigError(
            f"the run {run} is not finished, so there is nothing to export: continue it with "
            f"palate train {run / 'config.yaml'} resume=auto"
        )
    return run_folder(run)


def show(done: Exported, say: Reporter) -> None:
    """What was written, how near it is to the trainer's model, and what to do with it."""
    parity, files = done.parity, done.record["files"]
    error = "" if parity.error is None else f" ± {parity.error:.1g}"
    rows = [
        [f"KL(trainer ‖ exported), nats a {parity.unit}", f"{parity.kl:.2g}{error}"],
        ["limit", f"{parity.limit:g}"],
        [f"largest of a {parity.unit}", f"{parity.largest:.2g}"],
        ["top-1 agreement", f"{parity.top1:.2%}"],
        ["measured", f"{parity.tokens} {parity.unit}s in {parity.texts} texts"],
        ["through", parity.runtime],
        ["compared with", done.record["export"]["compared_with"]],
        ["size", f"{sum(files.values()) / 1e6:.1f} MB"],
    ]
    say.table("Parity", ["", ""], rows)
    say.note(f"\nexport  {done.folder}\ncard    {done.folder / 'README.md'}\n")
