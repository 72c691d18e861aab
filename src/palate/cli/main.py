"""`palate`: the commands, and the one place where errors become a line for people."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    name="palate",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at the data of a run.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, with dots: train.epochs=2 method.beta=0.2"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def quickstart(
    overrides: Overrides = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few steps only, to see that everything works.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the whole loop on the support desk's log, with a real small model."""
    from palate.cli.training import run_quickstart

    _guarded(lambda: run_quickstart(overrides or [], smoke=smoke, as_json=json), debug)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A YAML recipe, for instance from palate init.")],
    overrides: Overrides = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train as a recipe says; Ctrl-C saves, and resume=auto continues."""
    from palate.cli.training import run_train

    _guarded(lambda: run_train(recipe, overrides or [], as_json=json), debug)


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="A YAML recipe.")],
    grid: Annotated[
        list[str] | None,
        typer.Argument(help="Settings; a list makes an axis: method.beta=0.05,0.1 seed=1,2,3"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.")] = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe over a grid of settings, then show them in one table and plot."""
    from palate.cli.sweeping import run_sweep

    _guarded(lambda: run_sweep(recipe, grid or [], jobs=jobs, as_json=json), debug)


@app.command()
def init(
    model: Annotated[str, typer.Argument(help="Folder, hub id, .gguf file or known name.")],
    data: Annotated[str, typer.Argument(help="File or folder with conversations or pairs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Where the recipe goes.")] = "recipe.yaml",
    debug: Debug = False,
) -> None:
    """Write a commented recipe for this model and this data."""
    from palate.cli.recipe import run_init

    _guarded(lambda: run_init(model, data, out), debug)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run's folder, or a model as in a recipe.")],
    system: Annotated[
        str | None, typer.Option(help="System prompt; default: the one the run was trained with.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.7,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    debug: Debug = False,
) -> None:
    """Talk to a model in the terminal."""
    from palate.cli.talk import run_chat

    _guarded(lambda: run_chat(model, system, temperature, max_new_tokens, seed), debug)


@app.command()
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="Also estimate this recipe's memory and time.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this machine can do, and what a recipe will need."""
    from palate.cli.health import run_doctor

    _guarded(lambda: run_doctor(recipe, overrides or [], as_json=json), debug)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one whole, for instance dpo.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the methods by the data they need, or show one."""
    from palate.cli.methods import run_methods

    _guarded(lambda: run_methods(name, as_json=json), debug)


@data_app.command("trace")
def data_trace(
    example: Annotated[
        str, typer.Argument(help="An example's id or its beginning, or train:N, heldout:N.")
    ],
    run: Annotated[str, typer.Option(help="The run's folder.")] = "runs/quickstart",
    scores: Annotated[
        bool, typer.Option("--scores", help="Also load the model and show log-probs and loss.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Follow one pair from its file to its gradient, tokens coloured by mask."""
    from palate.cli.trace import run_trace

    _guarded(lambda: run_trace(example, run, scores=scores), debug)


def _say_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback(no_args_is_help=True)
def whole(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """From a product's conversations to preferences, and from preferences to a better model."""


@app.command()
def version() -> None:
    """Print the version."""
    from palate import __version__

    typer.echo(f"palate {__version__}")


def _guarded(work: object, debug: bool) -> None:
    """Run a command; what a user can mend becomes one line and exit code 2.

    `Stopped` carries its own exit code: 130 after Ctrl-C.
    """
    from palate.cli.stop import Stopped
    from palate.machine import calm_threads

    calm_threads()  # before anything imports torch
    try:
        work()  # type: ignore[operator]
    except Stopped as stopped:
        if str(stopped):
            typer.echo(str(stopped), err=True)
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        _end_with(error, debug)
    except RuntimeError as error:
        from palate.machine import ran_out_of_memory

        if not ran_out_of_memory(error):
            raise
        _end_with(error, debug)


def _end_with(error: Exception, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {_one_line(error)}", err=True)
    raise typer.Exit(2) from None


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError | RuntimeError):
        return (
            "out of memory: start anew with a lower train.tokens_per_microbatch or "
            "data.max_length, or take a smaller model (palate doctor estimates what a recipe needs)"
        )
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cure = ": free some space, then continue with resume=auto" if full else ""
        return f"{error.strerror}{place}{cure}"
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """The entry point of the `palate` program."""
    # Text that a user's terminal cannot show must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
