"""The commands that fill the store: what `palate import` and `palate judge` are told."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.guard import DEFAULT, Debug, Json, Store, guarded


def import_(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, or hub:OWNER/NAME; .gz and .zst too.")
    ],
    db: Store = DEFAULT,
    format: Annotated[
        str, typer.Option("--format", help="Name of the format; auto looks at the first rows.")
    ] = "auto",
    rejects: Annotated[
        str | None, typer.Option("--rejects", help="File that lists every refused row.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Import logs and preference files into the store; twice adds nothing."""
    from palate.cli.importing import run_import

    guarded(lambda: run_import(paths, db, format, rejects, as_json=json), debug)


def judge(
    target: Annotated[
        str, typer.Argument(help="A store, or a file of rows, which gets a store beside it.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="The judge's settings as key=value, with dots: kind=llm server.model=NAME"
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", "-j", help="A YAML file, a kind such as number, or module:function."
        ),
    ] = None,
    ask: Annotated[
        str,
        typer.Option(
            help="pairs compares the answers of an interaction, scores rates each; auto: pairs "
            "for models, scores for rules."
        ),
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge at most so many, then stop.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="Of a file: its format; auto looks at the first rows.")
    ] = "auto",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Have a judge compare or score the answers of a store; goes on where it stopped."""
    from palate.cli.judging import run_judge

    def work() -> None:
        run_judge(target, judge, settings or [], ask=ask, limit=limit, format=format, as_json=json)

    guarded(work, debug)
