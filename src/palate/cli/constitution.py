"""`palate constitution`: critique and revise under principles, and prefer by them."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.guard import Debug, Json, guarded

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from palate.constitution.critique import Summary
    from palate.constitution.principles import Constitution
    from palate.progress import Reporter

constitution_app = typer.Typer(
    no_args_is_help=True, help="Critique, revise and prefer answers under written principles."
)
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A run's folder, a model as in a recipe, or a URL."),
]
Prompts = Annotated[str, typer.Argument(help="A file with prompts; a .txt holds one a line.")]
Named = Annotated[
    str,
    typer.Option(
        "--constitution", "-c", help="A YAML file of principles, or default, or support-desk."
    ),
]
Out = Annotated[str, typer.Option("--out", "-o", help="The file that training reads.")]


@constitution_app.command()
def critique(
    prompts: Prompts,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value: pairs=FILE, only=[privacy], limit, seed, temperature, top_k, "
            "max_new_tokens, critique_tokens, format, server.model"
        ),
    ] = None,
    *,
    model: Model,
    out: Out,
    constitution: Named = "default",
    rounds: Annotated[int, typer.Option(min=1, help="Critiques and revisions of an answer.")] = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer, criticise the answer under a drawn principle, revise it: demonstrations for sft."""

    def work() -> None:
        from pathlib import Path

        from palate.cli.speaking import open_speaker, prompts_of
        from palate.constitution.critique import CritiqueSettings
        from palate.progress import reporter_for
        from palate.speak.settings import read_settings

        say = reporter_for()
        chosen = read_settings(CritiqueSettings, [*(settings or []), f"rounds={rounds}"])
        rules = named(constitution).only(chosen.only)
        asked = prompts_of(prompts, chosen.format, chosen.limit, say)
        speaker = open_speaker(model, chosen.server, say)
        found = _critique(asked, speaker, rules, chosen, Path(out), say)
        if json:
            typer.echo(jsonlib.dumps(found.to_dict(), ensure_ascii=False))

    guarded(work, debug)


@constitution_app.command()
def prefer(
    prompts: Annotated[
        str, typer.Argument(help="A file with prompts, or with two answers to each of them.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value: judge.kind=llm, average=3, least=0.05, only=[privacy], limit, seed, "
            "temperature, top_k, max_new_tokens, format, server.model"
        ),
    ] = None,
    *,
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Answers prompts that lack answers; judges, unless judge is set."
        ),
    ] = None,
    constitution: Named = "default",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two answers under a drawn principle, in both orders: pairs with their strength."""

    def work() -> None:
        from pathlib import Path

        from palate.cli.preferring import run_prefer

        found = run_prefer(prompts, settings or [], model, named(constitution), Path(out))
        if json:
            typer.echo(jsonlib.dumps(found.to_dict(), ensure_ascii=False))

    guarded(work, debug)


def named(name: str) -> Constitution:
    """The constitution that a name or a path stands for."""
    from palate.constitution.principles import load_constitution

    if name == "support-desk":
        from palate.cli.training import support_desk

        return load_constitution(support_desk() / "constitution.yaml")
    return load_constitution(name)


def _critique(
    asked: Any,
    speaker: Any,
    rules: Constitution,
    chosen: Any,
    out: Path,
    say: Reporter,
) -> Summary:
    from pathlib import Path

    from palate.cli.speaking import beside
    from palate.cli.stop import Stopped
    from palate.constitution import critique as work

    log = beside(out, "chains")
    try:
        with say.bar("critique and revise", len(asked)) as bar:
            rows = work.chains(asked, speaker, rules, chosen.plan, log, bar.advance)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what was done is in {log}: the same command goes on") from None
    found = work.summarise(rows)
    pairs = chosen.pairs
    write_rows(out, list(work.demonstrations(rows, rules, speaker.name)))
    if pairs is not None:
        write_rows(Path(pairs), list(work.pairs(rows, rules, speaker.name)))
    say.table(
        f"constitution {rules.name}",
        ["principle", "revisions", "kept"],
        [[name, str(of), str(kept)] for name, (kept, of) in sorted(found.by_principle.items())],
    )
    say.note(f"demonstrations {found.kept} of {found.prompts} prompts: {out}")
    if pairs is not None:
        say.note(f"pairs          {found.pairs}: {pairs}{_out_of(found.first_left_out)}")
    say.note(f"chains         {log}{_out_of(found.left_out)}")
    if found.kept:
        say.note(f"next: palate train recipes/sft.yaml data={out}")
    return found


def _out_of(counts: Counter[str]) -> str:
    from palate.cli.speaking import reasons

    return f" (left out: {reasons(counts)})" if counts.total() else ""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSONL, the whole file at once; no rows make an empty one."""
    from palate.durable import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [jsonlib.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(f"{line}\n" for line in lines))
