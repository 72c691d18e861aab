"""`palate data trace`: follow one example from its file to its gradient."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from palate.cli.journey import Journey
from palate.config import ConfigError
from palate.records import Message, Provenance, digest

if TYPE_CHECKING:
    from palate.tokens.tree import Branch, Forest

DEFAULT_RUN = "runs/quickstart"
_EXCERPT = 300
_STEPS_SHOWN = 3


def run_trace(
    example: str,
    run: str | None,
    *,
    scores: bool = False,
    as_json: bool = False,
    db: str | None = None,
    model: str | None = None,
) -> None:
    """Print every stage of one example's way; raises `ValueError` with the cure.

    As JSON its tokens only. With a store the example is one of its interactions, which a run or a
    model reads.
    """
    if model is not None and (db is None or run is not None):
        raise ConfigError("--model reads an interaction of a store: give --db, and no --run")
    if db is not None and (scores or not as_json):
        raise ConfigError("an interaction of a store is traced with --json, and without --scores")
    if db is not None:
        from palate.cli.token_facts import interaction_facts

        read_by = (None, model) if model is not None else (run or DEFAULT_RUN, None)
        typer.echo(json.dumps(interaction_facts(db, example, *read_by), ensure_ascii=False))
        return
    journey = Journey(Path(run or DEFAULT_RUN), example)
    if as_json:
        from palate.cli.token_facts import run_facts

        typer.echo(json.dumps(run_facts(journey), ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    _source(journey, console)
    _record(journey, console)
    _place(journey, console)
    _tokens(journey, console)
    _tree(journey, console)
    _steps(journey, console)
    if scores:
        from palate.cli.scores import show_scores

        _title(console, 7, "Scores")
        show_scores(journey, console)


def _title(console: Console, number: int, text: str) -> None:
    console.print(Text(f"\n{number}  {text}", style="bold"))


def _line(console: Console, text: str, style: str = "") -> None:
    """Text from data or a model, with what could command the terminal taken out."""
    from palate.generate.stream import printable

    console.print(Text("   " + printable(text).replace("\n", "\n   "), style=style))


def _source(journey: Journey, console: Console) -> None:
    _title(console, 1, "Source")
    if not journey.example.provenance:
        _line(console, "not recorded")
    for row in journey.example.provenance:
        when = f" at {row.time}" if row.time else ""
        _line(console, f"{row.source}, line {row.line}{when}")
        _line(console, f"  {_excerpt(row)}", "dim")


def _excerpt(row: Provenance) -> str:
    """The beginning of the row as it stands in its file now, or why it cannot be shown."""
    from palate.ingest import IngestError, containers

    path = Path(row.source).expanduser()
    if not path.is_file():
        return "(the file is not here any more)"
    try:
        raw = next((r for r in containers.rows(path) if r.line == row.line), None)
    except IngestError as error:
        return f"({error})"
    if raw is None or raw.value is None:
        return "(the file has changed since: this line holds no row now)"
    text = json.dumps(raw.value, ensure_ascii=False, default=str)
    short = text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
    if path.suffix != ".parquet" and row.hash and digest(raw.value) != row.hash:
        return f"(the file has changed since; the line is now) {short}"
    return short


def _record(journey: Journey, console: Console) -> None:
    example = journey.example
    _title(console, 2, f"Record {example.id} ({example.shape})")
    _messages(console, "prompt", example.prompt)
    verdict = example.verdict
    for index, completion in enumerate(example.completions):
        word = "completion"
        if verdict is not None:
            word = {verdict.better: "chosen", verdict.worse: "rejected"}.get(index, word)
        facts = [f"by {completion.source}"] if completion.source else []
        if completion.label is not None:
            facts.append("thumb up" if completion.label else "thumb down")
        if completion.score is not None:
            facts.append(f"score {completion.score:g}")
        _messages(console, " · ".join([word, *facts]), completion.messages)
    if verdict is not None:
        strength = f", strength {verdict.strength:g}" if verdict.strength is not None else ""
        said = f"completion {verdict.better} is better than {verdict.worse}"
        _line(console, f"verdict: {said}, says {verdict.by}{strength}")
    if example.tags:
        tags = ", ".join(f"{name}={value}" for name, value in sorted(example.tags.items()))
        _line(console, f"tags: {tags}")


def _messages(console: Console, title: str, messages: Sequence[Message]) -> None:
    _line(console, title, "bold dim")
    for message in messages:
        calls = f" + {len(message.tool_calls)} tool calls" if message.tool_calls else ""
        _line(console, f"  {message.role}{calls}: {message.content}")


def _place(journey: Journey, console: Console) -> None:
    _title(console, 3, "Snapshot")
    _line(console, f"{journey.side}:{journey.index} of {len(journey.part)}")
    _line(console, f"in {journey.folder / 'snapshot'}")
    _line(console, f"content hash {journey.data.manifest.content_hash}")


def _tokens(journey: Journey, console: Console) -> None:
    _title(console, 4, "Tokens")
    rendered, names = journey.rendered, journey.branch_names
    lengths = [len(b.ids) - rendered.prompt_length for b in rendered.branches]
    said = ", ".join(f"{name} {n}" for name, n in zip(names, lengths, strict=True))
    _line(console, f"prompt {rendered.prompt_length} tokens; {said}")
    coloured = console.is_terminal
    _line(console, "trained on: " + ("the green ones" if coloured else "what stands in ⟦ ⟧"), "dim")
    first = rendered.branches[0]
    for name, branch, begin, end in [
        ("prompt", first, 0, rendered.prompt_length),
        *[
            (name, branch, rendered.prompt_length, len(branch.ids))
            for name, branch in zip(names, rendered.branches, strict=True)
        ],
    ]:
        trained = sum(branch.mask[begin:end])
        _line(console, f"{name}: {end - begin} tokens, {trained} trained on", "bold dim")
        console.print(masked(journey.renderer.tokenizer, branch, begin, end, coloured=coloured))


def masked(tokenizer: Any, branch: Branch, begin: int, end: int, *, coloured: bool) -> Text:
    """The text of tokens [begin, end): trained ones in two greens by turns, or in ⟦ ⟧."""
    text = Text("")
    for trained, pieces in _runs(tokenizer, branch, begin, end):
        if not coloured:
            joined = "".join(pieces)
            text.append(f"⟦{joined}⟧" if trained else joined)
            continue
        for number, piece in enumerate(pieces):
            shade = "bold green" if number % 2 else "green"
            text.append(piece, style=shade if trained else "dim")
    return text


def _runs(tokenizer: Any, branch: Branch, begin: int, end: int) -> Iterator[tuple[bool, list[str]]]:
    """Neighbouring tokens of one kind: (trained on, the text of each token or character)."""
    from itertools import groupby

    from palate.generate.stream import TextStream, printable

    for trained, group in groupby(range(begin, end), key=lambda i: bool(branch.mask[i])):
        stream = TextStream(tokenizer, skip_special=False)
        pieces = [stream.add(int(branch.ids[i])) for i in group]
        yield trained, [printable(piece) for piece in [*pieces, stream.finish()] if piece]


def _tree(journey: Journey, console: Console) -> None:
    from palate.tokens.tree import build_forest

    _title(console, 5, f"Tree ({journey.plan.layout} layout: {journey.plan.layout_reason})")
    own = build_forest(journey.rendered.branches, share=journey.share)
    _line(console, "this example alone: " + _saved(own))
    for line in _segments(own):
        _line(console, f"  {line}")
    for draw in journey.draws[:1]:
        branches = [b for row in draw.rows for b in journey.all_rendered[row].branches]
        forest = build_forest(branches, share=journey.share)
        _line(
            console,
            f"its micro-batch in step {draw.step} ({len(draw.rows)} examples, "
            f"{len(forest.segments)} segments): {_saved(forest)}",
        )


def _saved(forest: Forest) -> str:
    saved = forest.path_tokens - forest.unique_tokens
    return (
        f"{forest.path_tokens} tokens on all paths, {forest.unique_tokens} computed, "
        f"{saved} saved ({saved / forest.path_tokens:.0%})"
    )


def _segments(forest: Forest) -> list[str]:
    """A line for each segment: its rows, its parent, its length, and what is above it."""
    return [
        f"segment {number}: rows {s.start} to {s.end}, "
        + ("a root" if s.parent < 0 else f"parent {s.parent}")
        + f", length {s.length}, {s.position} tokens above"
        for number, s in enumerate(forest.segments)
    ]


def _steps(journey: Journey, console: Console) -> None:
    _title(console, 6, "Steps")
    if journey.side != "train":
        _line(console, "held out: measured, never trained on")
        return
    if not journey.draws:
        _line(console, "never drawn: the run ends before its turn comes")
    for draw in journey.draws[:_STEPS_SHOWN]:
        others = ", ".join(f"train:{row}" for row in draw.rows if row != journey.index)
        beside = f", beside {others}" if others else ", alone"
        _line(console, f"step {draw.step}, micro-batch {draw.micro} of {draw.of}{beside}")
    if len(journey.draws) > _STEPS_SHOWN:
        rest = ", ".join(str(draw.step) for draw in journey.draws[_STEPS_SHOWN:])
        _line(console, f"and in the steps {rest}")
