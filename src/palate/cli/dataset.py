"""`palate data show`, `search`, `diff`, `export` and `snapshot`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palate.cli.targets import Target, open_target
from palate.config import ConfigError
from palate.progress import Reporter, reporter_for
from palate.records import Example, Message

if TYPE_CHECKING:
    from palate.store.reading import Stored
    from palate.store.sources import Source

WIDTH = 100  # characters of a text that a list shows


def run_show(target: str, beginning: str | None, *, as_json: bool) -> None:
    """An overview of the target, or one of its examples or interactions whole."""
    from palate.store.database import is_store

    if is_store(target):
        _show_store(target, beginning, as_json=as_json)
        return
    found = open_target(target)
    if beginning is not None:
        example = _example(found, beginning)
        typer.echo(_json(example.to_dict()) if as_json else whole(example))
        return
    facts = overview(found)
    if as_json:
        typer.echo(_json(dict(facts)))
        return
    say = reporter_for()
    say.table(found.name, ["", ""], [[name, value] for name, value in facts])
    _list(found.train[:5], say, "the first of train")


def run_search(target: str, words: str, limit: int, *, as_json: bool) -> None:
    """What holds the words, in any letter case: one line each."""
    from palate.store.database import Store, is_store
    from palate.store.reading import search

    if is_store(target):
        with Store.open(target, create=False) as store:
            found = [(one.id, one.example) for one in search(store, words, limit)]
    else:
        lowered = words.lower()
        hits = (e for e in open_target(target).examples if lowered in _text(e).lower())
        found = [(example.id, example) for _, example in zip(range(limit), hits, strict=False)]
    if as_json:
        typer.echo(_json([{**example.to_dict(), "id": key} for key, example in found]))
        return
    for key, example in found:
        typer.echo(f"{key[:12]}  {_line(_around(_text(example), words))}")
    if not found:
        typer.echo(f"nothing in {target} holds '{words}'", err=True)


def run_diff(before: str, after: str, *, as_json: bool) -> None:
    """What the second has and the first has not, and the other way round; by content."""
    old, new = open_target(before), open_target(after)
    sides = [
        {example.id: (side, example) for side, part in _parts(target) for example in part}
        for target in (old, new)
    ]
    added = [one for key, one in sides[1].items() if key not in sides[0]]
    removed = [one for key, one in sides[0].items() if key not in sides[1]]
    moved = [
        (sides[0][key][0], *sides[1][key])
        for key in sides[0].keys() & sides[1].keys()
        if sides[0][key][0] != sides[1][key][0]
    ]
    hashes = [target.manifest.content_hash if target.manifest else None for target in (old, new)]
    if as_json:
        body = {
            "hashes": hashes,
            "added": [{"side": side, **example.to_dict()} for side, example in added],
            "removed": [{"side": side, **example.to_dict()} for side, example in removed],
            "moved": sorted(example.id for _, _, example in moved),
        }
        typer.echo(_json(body))
        return
    same = len(sides[0].keys() & sides[1].keys()) - len(moved)
    say = reporter_for()
    counts = [len(added), len(removed), len(moved), same]
    names = ("added", "removed", "on the other side of the split", "the same")
    rows = [[name, str(count)] for name, count in zip(names, counts, strict=True)]
    for name, count in _reasons(old, new):
        rows.append([f"dropped: {name}", count])
    say.table(f"{before} → {after}", ["", "examples"], rows)
    for sign, part in (("+", added), ("-", removed)):
        for side, example in part[:10]:
            typer.echo(f"{sign} {example.id}  {side:8}{_line(_text(example))}")
        if len(part) > 10:
            typer.echo(f"{sign} and {len(part) - 10} more (--json lists all)")
    if None not in hashes and hashes[0] == hashes[1]:
        typer.echo("the same content hash: nothing differs")


def run_export(target: str, format: str, out: str, side: str, shape: str | None) -> None:
    """Write the target's examples as another program reads them."""
    from palate.store.export import write

    found = open_target(target, shape=shape)
    parts = dict(_parts(found))
    if side not in {"all", *parts}:
        raise ConfigError(f"--side is train, heldout or all, not '{side}'")
    examples = found.examples if side == "all" else parts[side]
    if not examples:
        raise ConfigError(f"there is no {side} example in {target}")
    count = write(Path(out), examples, format)
    reporter_for().note(f"wrote {count} rows to {out}")


def run_snapshot(recipe: str, overrides: Sequence[str], out: str | None) -> None:
    """Prepare a recipe's data and freeze them, without training."""
    from palate.curate.prepare import Prepared
    from palate.store.freezing import freeze

    found = open_target(recipe, overrides)
    if found.config is None or found.funnel is None:
        raise ConfigError(f"{recipe} is not a recipe: a snapshot is made of one")
    folder = Path(out or Path("snapshots") / found.config.name)
    prepared = Prepared(found.train, found.heldout, found.rejects, found.funnel)
    manifest = freeze(folder, prepared, found.config.data, "snapshot")
    say = reporter_for()
    rows = [[stage, str(count), unit, why] for stage, count, unit, why in found.funnel.rows()]
    say.table("Data", ["stage", "count", "", "dropped, and why"], rows)
    say.note(f"snapshot  {folder}\nhash      {manifest.content_hash}")
    say.note(f"next:     palate data lint {folder}\n          palate data card {folder}")


def overview(found: Target) -> list[tuple[str, str]]:
    """Facts about a target: sizes, where the pairs come from, how long the texts are."""
    examples = found.examples
    shapes = Counter(str(example.shape) for example in examples)
    by = Counter(example.verdict.by for example in examples if example.verdict)
    sources = Counter(p.source for example in examples for p in example.provenance[:1])
    facts = [
        ("train", str(len(found.train))),
        ("held-out", str(len(found.heldout))),
        ("prompts", str(len({example.prompt_key for example in examples}))),
        ("shapes", _counts(shapes)),
    ]
    if by:
        facts.append(("verdicts by", _counts(by)))
    facts.append(("sources", _counts(sources)))
    if found.rejects:
        facts.append(("dropped", _counts(Counter(reject.reason for reject in found.rejects))))
    if found.manifest is not None:
        facts.append(("content hash", found.manifest.content_hash))
    return facts


def whole(example: Example, name: str | None = None) -> str:
    """An example as text to read: prompt, answers, what is known of them, where they stood."""
    parts = [f"{name or example.id}  ({example.shape})"]
    parts += [_turn(message) for message in example.prompt]
    verdict = example.verdict
    for index, completion in enumerate(example.completions):
        marks = [f"answer {index}"]
        if verdict is not None:
            place = {verdict.better: "better", verdict.worse: "worse"}.get(index)
            marks += [f"{place}, by {verdict.by}"] if place else []
        if completion.label is not None:
            marks.append("thumb up" if completion.label else "thumb down")
        if completion.score is not None:
            marks.append(f"score {completion.score:g}")
        marks += [text for text in (completion.source, completion.finish_reason) if text]
        parts.append(f"--- {', '.join(marks)}")
        parts += [_turn(message) for message in completion.messages]
    if example.tags:
        parts.append("tags: " + ", ".join(f"{k}={v}" for k, v in sorted(example.tags.items())))
    parts += [f"from {p.source}:{p.line} {p.time or ''}".rstrip() for p in example.provenance]
    return "\n".join(parts)


def _show_store(target: str, beginning: str | None, *, as_json: bool) -> None:
    from palate.store.database import Store
    from palate.store.reading import counts, find
    from palate.store.sources import sources

    with Store.open(target, create=False) as store:
        if beginning is not None:
            one = find(store, beginning)
            typer.echo(_json(_stored(one)) if as_json else _stored_text(one))
            return
        totals, listed = counts(store), sources(store)
    if as_json:
        names = [{"name": s.name, "completed": s.completed, **(s.summary or {})} for s in listed]
        typer.echo(_json({"counts": totals, "sources": names}))
        return
    say = reporter_for()
    say.table(target, ["", "count"], [[name, f"{number:,}"] for name, number in totals.items()])
    rows = [[s.name, f"{(s.summary or {}).get('rows', '')}", _imported(s)] for s in listed]
    say.table("Sources", ["", "rows", "imported"], rows)


def _imported(source: Source) -> str:
    """When a source was read, or why it has no such time: what is no file has no end."""
    if source.completed is None:
        return "not finished" if source.sha256 is not None else f"since {source.began}"
    unusable = (source.summary or {}).get("unusable")
    return f"{source.completed}{', nothing usable' if unusable else ''}"


def _stored(one: Stored) -> dict[str, object]:
    signals = [signal.to_dict() for signal in one.signals]
    return {**one.example.to_dict(), "id": one.id, "user": one.user, "signals": signals}


def _stored_text(one: Stored) -> str:
    lines = [whole(one.example, one.id)]
    for signal in one.signals:
        said = {k: v for k, v in signal.to_dict().items() if k != "kind"}
        lines.append(f"{signal.kind}: {_json(said)}")
    return "\n".join([*lines, *([f"user {one.user}"] if one.user else [])])


def _example(found: Target, beginning: str) -> Example:
    hits = [example for example in found.examples if example.id.startswith(beginning)]
    if len(hits) != 1:
        problem = "several examples begin" if hits else "no example begins"
        raise ConfigError(f"{problem} with '{beginning}' in {found.name}: see palate data search")
    return hits[0]


def _list(examples: Sequence[Example], say: Reporter, title: str) -> None:
    rows = [[example.id, _line(_text(example))] for example in examples]
    say.table(title, ["id", ""], rows)


def _parts(found: Target) -> list[tuple[str, list[Example]]]:
    return [("train", found.train), ("heldout", found.heldout)]


def _reasons(old: Target, new: Target) -> list[tuple[str, str]]:
    counts = [Counter(reject.reason for reject in target.rejects) for target in (old, new)]
    names = sorted(counts[0].keys() | counts[1].keys())
    return [
        (name, f"{counts[0][name]} → {counts[1][name]}")
        for name in names
        if counts[0][name] != counts[1][name]
    ]


def _text(example: Example) -> str:
    turns = [*example.prompt[-1:], *(m for c in example.completions for m in c.messages)]
    return " | ".join(message.content for message in turns)


def _turn(message: Message) -> str:
    calls = f"\n{_json(list(message.tool_calls))}" if message.tool_calls else ""
    return f"[{message.role}] {message.content}{calls}"


def _around(text: str, words: str) -> str:
    at = text.lower().find(words.lower())
    start = max(0, at - WIDTH // 3)
    return ("…" if start else "") + text[start:]


def _line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= WIDTH else flat[: WIDTH - 1] + "…"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common(8))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
