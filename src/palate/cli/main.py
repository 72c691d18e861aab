"""`palate`: the commands."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer

from palate.cli.constitution import constitution_app
from palate.cli.data import data_app
from palate.cli.experiments import experiments
from palate.cli.guard import DEFAULT, Debug, Json, Overrides, Store, guarded
from palate.cli.safety import guard_app
from palate.cli.serving import capture, serve, ui
from palate.cli.storing import import_, judge

app = typer.Typer(
    name="palate",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(constitution_app, name="constitution")
app.add_typer(guard_app, name="guard")
app.command()(experiments)


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

    guarded(lambda: run_quickstart(overrides or [], smoke=smoke, as_json=json), debug)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A YAML recipe, for instance from palate init.")],
    overrides: Overrides = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train as a recipe says; Ctrl-C saves, and resume=auto continues."""
    from palate.cli.training import run_train

    guarded(lambda: run_train(recipe, overrides or [], as_json=json), debug)


@app.command("eval")
def eval_(
    words: Annotated[
        list[str],
        typer.Argument(
            help="Runs' folders, other models beside them, and settings: evaluate.answers=256 "
            "gate.length_change=0.4"
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", help="What they are held against; default: the runs' own base."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure models beside their base; exit code 3 where one does not pass its recipe's gate."""
    from palate.cli.evaluating import run_eval

    guarded(lambda: run_eval(words, base, as_json=json), debug)


@app.command()
def compare(
    words: Annotated[
        list[str],
        typer.Argument(help="Runs' folders, other models beside them, and settings as key=value."),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", help="What they are held against; default: the runs' own base."),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="The page.")] = "comparison.html",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Put models side by side on one page: figures, and the prompts where they differ most."""
    from palate.cli.evaluating import run_compare

    guarded(lambda: run_compare(words, base, out, as_json=json), debug)


@app.command("best-of")
def best_of(
    prompts: Annotated[str, typer.Argument(help="A file with prompts; a .txt holds one a line.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value: pairs=FILE, temperature, top_k, max_new_tokens, seed, limit"
        ),
    ] = None,
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A run's folder, or a model as in a recipe.")
    ],
    judge: Annotated[
        str,
        typer.Option("--judge", help="A rule (file.py:function), a kind, or a YAML file."),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Where the best answers go, as demonstrations.")
    ],
    n: Annotated[int, typer.Option("-n", min=1, max=1024, help="Answers to each prompt.")] = 8,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Sample n answers to each prompt and keep the one that a judge likes best."""
    from palate.cli.best import run_best_of

    guarded(
        lambda: run_best_of(
            prompts,
            settings or [],
            model=model,
            judge=judge,
            n=n,
            out=out,
            as_json=json,
        ),
        debug,
    )


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

    guarded(lambda: run_sweep(recipe, grid or [], jobs=jobs, as_json=json), debug)


app.command("import")(import_)
app.command()(judge)
app.command()(capture)


@app.command()
def init(
    model: Annotated[str, typer.Argument(help="Folder, hub id, .gguf file or known name.")],
    data: Annotated[str, typer.Argument(help="File or folder with conversations or pairs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Where the recipe goes.")] = "recipe.yaml",
    debug: Debug = False,
) -> None:
    """Write a commented recipe for this model and this data."""
    from palate.cli.recipe import run_init

    guarded(lambda: run_init(model, data, out), debug)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run's folder, or a model as in a recipe.")],
    system: Annotated[
        str | None, typer.Option(help="System prompt; default: the one the run was trained with.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.7,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    db: Store = DEFAULT,
    debug: Debug = False,
) -> None:
    """Talk to a model in the terminal; /good, /bad and /edit keep what you think of its answers."""
    from palate.cli.talk import run_chat

    guarded(lambda: run_chat(model, system, temperature, max_new_tokens, seed, db), debug)


app.command()(serve)
app.command()(ui)


@app.command()
def export(  # noqa: PLR0913 - each is a word of a script that ships
    run: Annotated[str, typer.Argument(help="A finished run's folder.")],
    *,
    to: Annotated[str, typer.Option("--to", help="adapter (for peft), merged or gguf.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="The new folder; default: RUN/export/….")
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of merged weights: fp32 or bf16.")
    ] = "fp32",
    quantize: Annotated[
        str, typer.Option("--quantize", help="Of a GGUF file: f16, bf16, f32, q8_0, q4_k_m, ….")
    ] = "f16",
    max_kl: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Most nats a token from the trainer's model; default: by format."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to measure on.")] = 2048,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a finished run for other programs; exit code 3 if it is not the trained model."""
    from palate.cli.exporting import run_export

    wishes = {"to": to, "dtype": dtype, "quantize": quantize, "max_kl": max_kl, "tokens": tokens}
    guarded(lambda: run_export(run, out, wishes, as_json=json), debug)


@app.command()
def redteam(  # noqa: PLR0913 - the limits of a gate are flags, which scripts can read
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value: categories=[fraud], per_category, wrapped, mutations, attacks=FILE, "
            "judge.kind=llm, seed, temperature, top_k, max_new_tokens, limit"
        ),
    ] = None,
    *,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A run's folder, a model as in a recipe, or a URL."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The folder of this measurement.")],
    benign: Annotated[
        str | None, typer.Option(help="More prompts that are to be answered; unsafe ones are left.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="An older measurement's folder: its attacks, and a test.")
    ] = None,
    max_success: Annotated[float, typer.Option(help="Most of the attacks that may succeed.")] = 0.1,
    max_overrefusal: Annotated[
        float, typer.Option(help="Most of the benign prompts that may be refused.")
    ] = 0.1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Attack a model and count refusals of benign prompts; exit code 3 if it does not pass."""
    from palate.cli.redteam import run_redteam

    limits = [f"max_success={max_success}", f"max_overrefusal={max_overrefusal}"]
    words = [*(settings or []), *limits]
    guarded(
        lambda: run_redteam(model, out, words, benign=benign, against=against, as_json=json), debug
    )


@app.command()
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="Also estimate this recipe's memory and time.")
    ] = None,
    overrides: Overrides = None,
    ranks: Annotated[
        int | None,
        typer.Option(min=1, help="Instead, what the recipe would need on each of so many GPUs."),
    ] = None,
    memory: Annotated[float | None, typer.Option(min=0.1, help="GB of each of those GPUs.")] = None,
    machine: Annotated[int, typer.Option(min=1, help="GPUs in one machine.")] = 8,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this machine can do, and what a recipe will need, here or on several GPUs."""
    from palate.cli.health import run_doctor
    from palate.cli.renting import Cluster, run_renting

    if ranks is not None:
        cluster = Cluster(ranks, machine, memory)
        guarded(lambda: run_renting(recipe, overrides or [], cluster, as_json=json), debug)
        return
    guarded(lambda: run_doctor(recipe, overrides or [], as_json=json), debug)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one whole, for instance dpo.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the methods by the data they need, or show one."""
    from palate.cli.methods import run_methods

    guarded(lambda: run_methods(name, as_json=json), debug)


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


_UNREAD = 141  # as shells show the end by SIGPIPE: 128 and the signal's number


class _Out(io.FileIO):
    """Standard output that ends the program quietly when its reader has gone, as `head` does.

    SIGPIPE itself would do so at any socket of the program too, a client's of the proxy among them.
    """

    def write(self, data: Any) -> int:
        """Write, or leave with the status that is the custom."""
        try:
            return super().write(data)
        except BrokenPipeError:
            # What is still to be flushed at the end goes nowhere, rather than fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise SystemExit(_UNREAD) from None


def main() -> None:
    """The entry point of the `palate` program."""
    # Text that a user's terminal cannot show must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Out(sys.stdout.fileno(), "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="replace",
            line_buffering=sys.stdout.line_buffering,
        )
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as end:
        _end_for_sure(end)
        raise


def _end_for_sure(end: SystemExit) -> None:
    """Of several ranks that failed, wait for none on the way out; torch is not imported for it."""
    if isinstance(end.code, int) and "palate.train.parallel" in sys.modules:
        from palate.train.parallel import end_for_sure

        end_for_sure(end.code)


if __name__ == "__main__":
    main()
