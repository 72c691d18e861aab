"""The commands that listen: what `palate capture`, `palate serve` and `palate ui` are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.guard import DEFAULT, Debug, Json, Store, guarded

Models = Annotated[
    list[str] | None,
    typer.Argument(help="Run folders, or models as in a recipe; several at once."),
]
Bases = Annotated[
    list[str] | None,
    typer.Option(help="Serve also what this run began from, as RUN-base; several times."),
]
Attached = Annotated[
    bool,
    typer.Option(
        "--attached",
        help="For programs: tell in JSON on stdout when ready, and end when stdin ends.",
    ),
]


def capture(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings as key=value: sample=0.1 redact=personal retention_days=30"),
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="The provider's base URL: https://api.openai.com/v1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: 8100.")] = None,
    db: Annotated[str | None, typer.Option("--db", help="The store; default: palate.db.")] = None,
    settings: Annotated[
        str | None, typer.Option("--settings", help="A YAML file of settings.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Pass a product's traffic to its model provider, and keep it in the store."""
    from palate.cli.capturing import run_capture

    flags = {"upstream": upstream, "port": port, "db": db}
    guarded(lambda: run_capture(settings, overrides or [], flags, as_json=json), debug)


def serve(  # noqa: PLR0913 - each is a limit or a place that operators set
    models: Models = None,
    *,
    base: Bases = None,
    host: Annotated[
        str, typer.Option(help="Address; any but loopback needs --api-key-env.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key that clients send.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Answers that are computed at once.")] = 32,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get 429.")] = 256,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Length of an answer where the request sets none.")
    ] = 1024,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one answer.")] = 600.0,
    drain: Annotated[int, typer.Option(min=0, help="Seconds for answers to end at a stop.")] = 30,
    guard: Annotated[
        str | None, typer.Option(help="A guard's folder: asked before and after generation.")
    ] = None,
    db: Store = DEFAULT,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep nothing, and take no feedback.")
    ] = False,
    spill: Annotated[
        str | None, typer.Option(help="Folder of what waits for the store; default: beside it.")
    ] = None,
    attached: Attached = False,
    print_vllm: Annotated[
        bool, typer.Option("--print-vllm", help="Print vLLM's command for the same models.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Serve models over OpenAI's chat completions, and take feedback on their answers."""
    from palate.cli.serving_model import run_serve

    flags = {
        "host": host,
        "port": port,
        "api_key_env": api_key_env,
        "rows": rows,
        "queue": queue,
        "max_tokens": max_tokens,
        "timeout": timeout,
        "drain": drain,
        "guard": guard,
        "db": None if no_store else db,
        "spill": spill,
    }
    asked = {"bases": base or [], "attached": attached, "print_vllm": print_vllm}
    guarded(lambda: run_serve(models or [], flags, **asked), debug)  # type: ignore[arg-type]


def ui(  # noqa: PLR0913 - each is a place or a limit that owners set
    *,
    db: Store = DEFAULT,
    runs: Annotated[Path, typer.Option(help="The folder of runs.")] = Path("runs"),
    host: Annotated[
        str, typer.Option(help="Address; any but loopback needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8321,
    token: Annotated[
        str | None,
        typer.Option(envvar="PALATE_UI_TOKEN", help="The secret of all links; drawn anew without."),
    ] = None,
    me: Annotated[
        str | None, typer.Option(help="Your name on votes; default: the system's.")
    ] = None,
    annotator: Annotated[
        list[str] | None, typer.Option(help="Print a link for this person; may be repeated.")
    ] = None,
    guidelines: Annotated[
        Path | None, typer.Option(help="A text that is shown beside what is labelled.")
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of items that two people get.")
    ] = 0.15,
    model: Annotated[
        list[str] | None, typer.Option(help="A model for the arena, beside the runs; repeatable.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name under which browsers ask; repeatable.")
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Open a local site: label, watch runs, compare models, look at the data."""
    from palate.cli.site import run_ui

    flags = {
        "db": db,
        "runs": runs,
        "host": host,
        "port": port,
        "token": token,
        "me": me,
        "guidelines": guidelines,
        "overlap": overlap,
        "models": tuple(model or ()),
        "hosts": tuple(allow_host or ()),
    }
    guarded(lambda: run_ui(flags, annotator or [], browser=browser, as_json=json), debug)
