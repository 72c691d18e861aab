"""`palate sweep`: a grid's runs as processes of `palate train`, one after another or some at once.

Each run is a process of its own, so that its memory is free when it ends and a failure stays
its own. What a cell says goes into `logs/CELL.log` in the sweep's folder.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palate.config import ConfigError, RunConfig
from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.cli.jobs import Failure
    from palate.evaluate.sweeps import Outcome
    from palate.sweep import Cell, Sweep

Command = Callable[["Cell"], list[str]]


def run_sweep(
    recipe: str,
    words: Sequence[str],
    *,
    jobs: int,
    as_json: bool,
    command: Command | None = None,
) -> None:
    """Run what is not complete, then show the table; `command` makes a cell's command line."""
    from palate.cli.stop import Stopped
    from palate.sweep import plan_sweep

    sweep = plan_sweep(recipe, words)
    check_methods(sweep)
    say = reporter_for()
    parallel = ["--jobs", str(jobs)] if jobs > 1 else []
    again = shlex.join(["palate", "sweep", recipe, *words, *parallel])
    with _held(sweep.folder):
        sweep.save()
        _announce(sweep, say)
        try:
            failures, stopped = _run(sweep, command or train_command, jobs, say)
        except KeyboardInterrupt:
            raise Stopped(f"stopped at once. Continue with:\n  {again}") from None
        show(sweep, say, as_json=as_json)
    left = sum(not cell.complete for cell in sweep.cells)
    if stopped and left:
        raise Stopped(
            f"stopped; {len(sweep.cells) - left} of {len(sweep.cells)} runs are complete, and what "
            f"was going is saved. Continue with:\n  {again}"
        )
    if failures:
        raise Stopped(_failed(failures, len(sweep.cells), again), 1)


def check_methods(sweep: Sweep) -> None:
    """Raise `ConfigError` for a misspelt parameter, before each run meets it by itself.

    In a process of its own: losses need torch, whose memory is the runs' to use.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from palate.cli.jobs import end_with

    ends = (os.getpid(), signal.SIGTERM)
    with ProcessPoolExecutor(1, get_context("spawn"), end_with, ends) as process:
        problem = process.submit(_problem, [(c.name, c.config) for c in sweep.cells]).result()
    if problem is not None:
        raise ConfigError(problem)


def _problem(cells: list[tuple[str, RunConfig]]) -> str | None:
    from palate.stages import check_methods

    for name, config in cells:
        try:
            check_methods(config)
        except ConfigError as error:
            return f"{name}: {error}"
    return None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder; `ConfigError` where another sweep does, or it cannot be written."""
    from palate.durable import hold

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder / ".lock")
    except OSError as error:
        raise ConfigError(
            f"the sweep's folder {folder} cannot be written ({error.strerror}): choose another "
            "with out=FOLDER"
        ) from error
    if lock is None:
        raise ConfigError(f"another sweep is running in {folder}: wait for it")
    try:
        yield
    finally:
        os.close(lock)


def _run(sweep: Sweep, command: Command, jobs: int, say: Reporter) -> tuple[list[Failure], bool]:
    """Run what is not complete; what failed, and whether a stop was asked for."""
    from palate.cli.jobs import run_jobs
    from palate.cli.stop import stop_signals

    with stop_signals(say.note) as should_stop:
        failures = run_jobs(
            [cell for cell in sweep.cells if not cell.complete],
            command,
            jobs=jobs,
            logs=sweep.folder / "logs",
            say=say,
            should_stop=should_stop,
            environment=environment(jobs),
            on_end=lambda: write_csv(sweep),
        )
        return failures, should_stop()


def train_command(cell: Cell) -> list[str]:
    """`palate train` of the cell's own config, going on where it was."""
    where = [f"out={json.dumps(str(cell.folder.parent))}", f"name={json.dumps(cell.name)}"]
    config = str(cell.folder / "config.yaml")
    return [sys.executable, "-m", "palate.cli", "train", config, *where, "resume=auto"]


def environment(jobs: int) -> dict[str, str]:
    """What the processes inherit; several at once divide the cores, unless threads are set."""
    from palate.machine import cores

    inherited = dict(os.environ)
    if jobs > 1:
        inherited.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    return inherited


def outcomes(sweep: Sweep) -> list[Outcome]:
    """Every cell that the folder knows, with its results where it is complete."""
    from palate.evaluate.sweeps import Outcome

    return [Outcome(cell.name, cell.settings, cell.results()) for cell in sweep.known]


def write_csv(sweep: Sweep) -> Path:
    """results.csv, as far as the sweep has come."""
    from palate.durable import write_text
    from palate.evaluate.sweeps import results_csv

    path = sweep.folder / "results.csv"
    write_text(path, results_csv(outcomes(sweep)))
    return path


def show(sweep: Sweep, say: Reporter, *, as_json: bool) -> None:
    """The table, results.csv and the page, of all that is complete."""
    from palate.evaluate.sweep_page import write_page
    from palate.evaluate.sweeps import plain, rows, table

    found = outcomes(sweep)
    path = write_csv(sweep)
    if any(one.results is not None for one in found):
        page = write_page(sweep.folder, found)
        header, body = table(rows(found))
        say.table(sweep.folder.name, header, body)
        say.note(f"\ntable   {path}\nplot    {page}")
    if as_json:
        typer.echo(json.dumps(plain(found), ensure_ascii=False))


def _announce(sweep: Sweep, say: Reporter) -> None:
    axes = " × ".join(f"{len(axis.values)} {axis.key}" for axis in sweep.axes)
    done = sum(cell.complete for cell in sweep.cells)
    before = f", {done} of them complete already" if done else ""
    say.note(f"{axes} = {len(sweep.cells)} runs in {sweep.folder}{before}")


def _failed(failures: Sequence[Failure], total: int, again: str) -> str:
    lines = [f"{len(failures)} of {total} runs failed:"]
    lines += [f"  {one.name}: {one.reason}" for one in failures]
    return "\n".join([*lines, f"To try these again:\n  {again}"])
