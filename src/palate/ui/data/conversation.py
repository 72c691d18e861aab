"""One interaction in full: what was said, by whom, where it stood, and every event about it."""

from __future__ import annotations

import json
import string
from collections import defaultdict
from shlex import quote
from typing import Any

import orjson
import sqlalchemy as sa

from palate.curate.signals import Judged
from palate.records import JUDGE, Completion, Message, Signal
from palate.store.database import Store
from palate.store.reading import Stored, stored_of
from palate.store.schema import EVENT, INTERACTION, NAME, SOURCE
from palate.ui.data.making import made_of


def conversation(store: Store, db: str, key: str) -> dict[str, Any] | None:
    """All that is known of the interaction, JSON-ready; None if there is none of that id.

    Raises `ValueError` if it was erased.
    """
    with store.reading() as connection:
        row = connection.execute(
            sa.select(INTERACTION.c.id, INTERACTION.c.erased).where(INTERACTION.c.id == key)
        ).first()
    if row is None:
        return None
    listed = stored_of(store, [key]) if row.erased is None else []
    if not listed:
        raise ValueError(f"the interaction {key} was erased on {row.erased or 'just now'}")
    one = listed[0]
    example = one.example
    return {
        "id": one.id,
        "user": one.user,
        "prompt": [_turn(message) for message in example.prompt],
        "answers": [_answer(n, c, one) for n, c in enumerate(example.completions)],
        "tools": [json.dumps(tool, ensure_ascii=False, indent=2) for tool in example.tools],
        "tags": dict(sorted(example.tags.items())),
        "places": [
            {"source": p.source, "line": p.line, "time": p.time} for p in example.provenance
        ],
        "names": _names(store, key),
        "events": _events(store, key),
        "made": made_of(Judged(example, one.signals)),
        "erase": f"palate data delete --db {quote(db)} --id {key}",
    }


def _turn(message: Message) -> dict[str, Any]:
    calls = [json.dumps(call, ensure_ascii=False, indent=2) for call in message.tool_calls]
    return {"role": message.role, "text": message.content, "calls": calls, "name": message.name}


def _answer(number: int, completion: Completion, one: Stored) -> dict[str, Any]:
    return {
        "number": number,
        "model": completion.source,
        "finish": completion.finish_reason,
        "turns": [_turn(message) for message in completion.messages],
        "said": _counted(number, one.signals),
    }


def _counted(number: int, signals: tuple[Signal, ...]) -> dict[str, int]:
    """How often each thing was said of the answer: thumbs, votes for and against, edits."""
    counts: dict[str, int] = defaultdict(int)
    for signal in signals:
        if signal.kind == "thumb" and signal.choice == number:
            counts["thumb up" if signal.label else "thumb down"] += 1
        elif signal.kind == "vote":
            if signal.choice is None:
                counts["called bad"] += 1
            elif number in {signal.choice, signal.over}:
                counts["preferred" if signal.choice == number else "not preferred"] += 1
        elif signal.kind == "tie" and number in {signal.choice, signal.over}:
            counts["tie"] += 1
        elif signal.kind in {"edit", "again"} and signal.choice == number:
            counts["edited" if signal.kind == "edit" else "asked again"] += 1
    return dict(counts)


def _events(store: Store, key: str) -> list[dict[str, Any]]:
    """Every event that is not erased, in the order of time, with who said it and where."""
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(EVENT, SOURCE.c.name.label("origin"))
            .join(SOURCE, SOURCE.c.id == EVENT.c.source)
            .where(EVENT.c.interaction == key, EVENT.c.erased.is_(None))
            .order_by(EVENT.c.time.asc().nulls_first(), EVENT.c.id)
        ).all()
    return [_event(row) for row in rows]


def _event(row: Any) -> dict[str, Any]:
    said = orjson.loads(row.said)
    by = row.by_whom or said.get("by")
    return {
        "kind": row.kind,
        "words": _words(row.kind, said),
        "by": by,
        "is_judge": bool(by and by.startswith(JUDGE)),
        "time": row.time,
        "name": said.get("name"),
        "strength": said.get("strength"),
        "comment": said.get("comment"),
        "edit": "\n\n".join(turn["content"] for turn in said.get("edit", ())),
        "origin": row.origin,
        "line": row.line or None,
    }


def _words(kind: str, said: dict[str, Any]) -> str:
    """The event as a sentence without its subject; answers are called by letters."""
    choice, over = (_letter(said.get(name)) for name in ("choice", "over"))
    if kind == "score":
        return f"gives answer {choice} {said.get('score'):g}"
    if kind == "vote" and choice:
        return f"prefers answer {choice}" + (f" over {over}" if over else "")
    return {
        "thumb": f"thumb {'up' if said.get('label') else 'down'} for answer {choice}",
        "vote": "calls the answers bad",
        "tie": f"finds answers {choice} and {over} equally good" if over else "finds no difference",
        "edit": f"rewrites answer {choice}",
        "again": f"asked for another answer than {choice}",
        "skip": "passes it over",
        "flag": "reports it",
    }.get(kind, kind)


def _letter(number: int | None) -> str:
    """A for the first answer; past Z the number, counted from 1."""
    if number is None:
        return ""
    letters = string.ascii_uppercase
    return letters[number] if 0 <= number < len(letters) else str(number + 1)


def _names(store: Store, key: str) -> list[str]:
    query = sa.select(NAME.c.name).where(NAME.c.interaction == key).order_by(NAME.c.name)
    with store.reading() as connection:
        return list(connection.execute(query).scalars())
