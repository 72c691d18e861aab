"""`palate data …`: the commands that look at data, and take some out."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.guard import DEFAULT, Debug, Json, Overrides, Store, guarded

data_app = typer.Typer(
    help="Look at data: a store, a snapshot, a run, a recipe or files.", no_args_is_help=True
)

Target = Annotated[
    str, typer.Argument(help="A store, a snapshot's or run's folder, a recipe, or a file of rows.")
]


@data_app.command("show")
def data_show(
    target: Target,
    example: Annotated[
        str | None, typer.Argument(help="An id, or its beginning: shown whole.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is there, or show one example whole."""
    from palate.cli.dataset import run_show

    guarded(lambda: run_show(target, example, as_json=json), debug)


@data_app.command("search")
def data_search(
    target: Target,
    words: Annotated[str, typer.Argument(help="Text to look for, in any letter case.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find examples by their text."""
    from palate.cli.dataset import run_search

    guarded(lambda: run_search(target, words, limit, as_json=json), debug)


@data_app.command("diff")
def data_diff(before: Target, after: Target, json: Json = False, debug: Debug = False) -> None:
    """Say what one has and the other has not."""
    from palate.cli.dataset import run_diff

    guarded(lambda: run_diff(before, after, as_json=json), debug)


Model = Annotated[
    str | None,
    typer.Option(
        help="A run's folder or a model as in a recipe: lengths in its tokens, and the share of "
        "answers that are its own."
    ),
]
Shape = Annotated[
    str | None, typer.Option(help="pair, labelled or demonstration; default: what there is.")
]


@data_app.command("lint")
def data_lint(
    target: Target,
    overrides: Overrides = None,
    model: Model = None,
    shape: Shape = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also list the numbers that are in order.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 if there is a warning.")] = (
        False
    ),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether the data teach what you think they teach."""
    from palate.cli.linting import run_lint

    settings = overrides or []
    guarded(
        lambda: run_lint(
            target,
            settings,
            model=model,
            shape=shape,
            every=every,
            strict=strict,
            as_json=json,
        ),
        debug,
    )


@data_app.command("card")
def data_card(
    target: Target,
    overrides: Overrides = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="The page's file.")] = None,
    model: Model = None,
    shape: Shape = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the data, for the page.")] = None,
    examples: Annotated[
        int | None, typer.Option(min=0, help="Examples that the page quotes; 0 for no text.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a page about the data: counts at every step, examples, lint, splits."""
    from palate.cli.data_card import run_data_card

    settings = overrides or []
    guarded(
        lambda: run_data_card(
            target,
            settings,
            out=out,
            model=model,
            shape=shape,
            licence=licence,
            examples=examples,
        ),
        debug,
    )


@data_app.command("export")
def data_export(
    target: Target,
    to: Annotated[str, typer.Option("--to", help="trl, openai, axolotl or llama-factory.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The file; .gz and .zst compress.")],
    side: Annotated[str, typer.Option(help="train, heldout or all.")] = "all",
    shape: Shape = None,
    debug: Debug = False,
) -> None:
    """Write examples as another program reads them."""
    from palate.cli.dataset import run_export

    guarded(lambda: run_export(target, to, out, side, shape), debug)


@data_app.command("snapshot")
def data_snapshot(
    recipe: Annotated[str, typer.Argument(help="A YAML recipe.")],
    overrides: Overrides = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Its folder; default: snapshots/NAME.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Prepare a recipe's data and freeze them, without training."""
    from palate.cli.dataset import run_snapshot

    guarded(lambda: run_snapshot(recipe, overrides or [], out), debug)


@data_app.command("delete")
def data_delete(
    db: Store = DEFAULT,
    user: Annotated[str | None, typer.Option(help="All of this end user.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="One interaction; may be given again.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Erase content for good, from the store and from snapshots; name the runs that knew it."""
    from palate.cli.deletion import run_delete

    guarded(lambda: run_delete(db, user, ids or [], sure=yes, as_json=json), debug)


@data_app.command("trace")
def data_trace(
    example: Annotated[
        str, typer.Argument(help="An example's id or its beginning, or train:N, heldout:N.")
    ],
    run: Annotated[
        str | None, typer.Option(help="The run's folder; default: runs/quickstart.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also load the model and show log-probs and loss.")
    ] = False,
    db: Annotated[
        str | None,
        typer.Option("--db", help="A store: EXAMPLE is then one of its interactions. With --json."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="With --db: a model as in a recipe, in place of a run."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Follow one pair from its file to its gradient, tokens coloured by mask."""
    from palate.cli.trace import run_trace

    def work() -> None:
        run_trace(example, run, scores=scores, as_json=json, db=db, model=model)

    guarded(work, debug)
