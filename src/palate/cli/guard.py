"""What the commands share: the one place where errors become a line, and common options."""

from __future__ import annotations

import errno
import traceback
from typing import Annotated, NoReturn

import typer

DEFAULT = "palate.db"
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, with dots: train.epochs=2 method.beta=0.2"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Store = Annotated[
    str, typer.Option("--db", help="The store: a file, or postgresql://USER@HOST/DATABASE.")
]


def guarded(work: object, debug: bool) -> None:
    """Run a command; what a user can mend becomes one line and exit code 2.

    `Stopped` carries its own exit code: 130 after Ctrl-C.
    """
    from palate.cli.stop import Stopped
    from palate.machine import calm_threads, hush_ranks

    calm_threads()  # before anything imports torch
    hush_ranks()
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
    # A name in a file of somebody else may hold what a terminal would obey.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _words(error))
    return shown or type(error).__name__


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())
