"""`palate experiments`: methods measured in worlds where the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.guard import Debug, Json, guarded

Name = Annotated[
    str | None, typer.Argument(help="Which one, for instance frontier. Without it, a list.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="The folder of runs, figures and plots.")]


def experiments(
    name: Name = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 5,
    only: Annotated[
        str | None, typer.Option(help="Only these lines of it, for instance dpo,ppo.")
    ] = None,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="A tiny world: minutes instead of hours.")
    ] = False,
    out: Out = "runs/experiments",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure methods in a world where the truth is known; goes on where it was stopped."""
    if name is None:
        guarded(lambda: _list(as_json=json), debug)
    else:
        guarded(lambda: _perform(name, seeds, only, reduced, out, as_json=json), debug)


def _list(*, as_json: bool) -> None:
    from json import dumps

    from palate.experiments.listed import LISTED
    from palate.progress import reporter_for

    if as_json:
        typer.echo(dumps(LISTED))
        return
    say = reporter_for()
    say.table("palate experiments NAME", ["name", "what it asks"], [*map(list, LISTED.items())])


def _perform(
    name: str, seeds: int, only: str | None, reduced: bool, out: str, *, as_json: bool
) -> None:
    from palate.experiments.listed import LISTED, find

    what = find(name)
    from palate.experiments.experiment import perform
    from palate.machine import threads, tune_allocator
    from palate.progress import reporter_for

    tune_allocator()
    import torch

    torch.set_num_threads(threads())
    say = reporter_for()
    lines = None if only is None else [word.strip() for word in only.split(",")]
    parts = [name, *(["reduced"] if reduced else []), *(lines or [])]
    outcome = perform(
        what,
        Path(out) / "-".join(parts),
        range(seeds),
        reduced=reduced,
        lines=lines,
        say=say.note,
    )
    if as_json:
        typer.echo(outcome.figures.read_text(encoding="utf-8"))
        return
    say.table(LISTED[name], *outcome.table)
    say.note(f"figures: {outcome.figures}; drawing: {outcome.drawing}")
