"""`palate experiments`: methods measured in worlds where the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.guard import Debug, Json, guarded

experiments_app = typer.Typer(
    no_args_is_help=True, help="Measure methods in worlds where the truth is known."
)
Out = Annotated[str, typer.Option("--out", "-o", help="The folder of runs, figures and plots.")]


@experiments_app.command()
def frontier(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each setting.")] = 5,
    methods: Annotated[
        str | None, typer.Option(help="Only these, for instance dpo,ppo,best-of-n.")
    ] = None,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="A world of 27 answers: minutes instead of hours.")
    ] = False,
    out: Out = "runs/experiments",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """How near each method comes to the exact reward-KL frontier; goes on where it was stopped."""
    guarded(lambda: _frontier(seeds, methods, reduced, out, as_json=json), debug)


def _frontier(seeds: int, methods: str | None, reduced: bool, out: str, *, as_json: bool) -> None:
    from palate.experiments.figures import FIGURES, PLOT, table, write
    from palate.experiments.frontier import FULL, REDUCED, Ground, run_all, settings
    from palate.machine import threads, tune_allocator
    from palate.progress import reporter_for

    chosen = settings()
    if methods is not None:
        wanted = [name.strip() for name in methods.split(",")]
        known = list(dict.fromkeys(one.method for one in chosen))
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(
                f"no such method here: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        chosen = [one for one in chosen if one.method in wanted]
    tune_allocator()
    import torch

    torch.set_num_threads(threads())
    say = reporter_for()
    name = "frontier-reduced" if reduced else "frontier"
    folder = Path(out) / (name if methods is None else f"{name}-{'-'.join(wanted)}")
    ground = Ground.of(REDUCED if reduced else FULL)
    rows = run_all(ground, folder / "runs.jsonl", chosen, range(seeds), say.note)
    found = write(folder, ground, rows)
    if as_json:
        typer.echo((folder / FIGURES).read_text(encoding="utf-8"))
        return
    say.table("The exact frontier", *table(found))
    say.note(f"figures: {folder / FIGURES}; drawing: {folder / PLOT}")
