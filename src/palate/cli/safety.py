"""`palate guard …`: train a safety classifier, and measure it."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.guard import Debug, Json, Overrides, guarded

guard_app = typer.Typer(
    help="A safety classifier, to stand before and after generation.", no_args_is_help=True
)


@guard_app.command("train")
def guard_train(
    data: Annotated[
        str,
        typer.Argument(
            help="A store or a file of rows with thumbs or safe/unsafe labels; or a recipe."
        ),
    ],
    overrides: Overrides = None,
    recall: Annotated[
        float | None,
        typer.Option(help="Choose the threshold for this recall of unsafe rows; default: 0.95."),
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(help="Choose it for at most this share of safe rows flagged, instead."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a classifier on labels (thumb down = unsafe), calibrate it, and measure it."""
    from palate.cli.guarding import run_guard_train

    guarded(
        lambda: run_guard_train(data, overrides or [], recall=recall, fpr=fpr, as_json=json), debug
    )


@guard_app.command("eval")
def guard_eval(
    guard: Annotated[str, typer.Argument(help="The folder of a guard, such as runs/guard.")],
    data: Annotated[
        str, typer.Argument(help="A store, a snapshot's or run's folder, or a file of rows.")
    ],
    page: Annotated[
        str | None, typer.Option("--page", help="Also write the figures to this HTML file.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a guard on labelled rows: ROC, precision at a recall, calibration, latency."""
    from palate.cli.guarding import run_guard_eval

    guarded(lambda: run_guard_eval(guard, data, page, as_json=json), debug)
