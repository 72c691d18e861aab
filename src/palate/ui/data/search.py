"""The search page: what was asked, what was found, and how far the search has come."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import orjson
import sqlalchemy as sa

from palate.records import canonical_json
from palate.store.database import Store
from palate.store.reading import stored_of
from palate.store.schema import EVENT, INTERACTION, SOURCE
from palate.ui.csv_text import Cell, csv_pieces
from palate.ui.data.asked import KINDS, Asked
from palate.ui.data.excerpts import excerpt
from palate.ui.data.walk import walk

SECONDS = 0.15  # that a page looks for; a rare word is looked for further on the next
EXPORTED = 10_000  # interactions of one file
_SHOWN = 25
_AT_ONCE = 250  # interactions that an export reads at once
_PATIENCE = 5.0  # seconds of one step of an export
_BETWEEN = "\n\n* * *\n\n"  # answers of one cell; dashes would begin a formula
_RECENT = 200  # interactions whose models and tags are offered
_OFFERED = 30
_SYSTEM = {"system", "developer"}
COLUMNS = ("id", "time", "source", "models", "events", "tags", "conversation", "answers")


def found(store: Store, asked: Asked, seconds: float = SECONDS) -> dict[str, Any]:
    """A page of interactions, newest first; JSON-ready."""
    walked = walk(store, asked, _SHOWN, seconds)
    names, total = _sources(store)
    events = _events(store, [row.id for row in walked.rows])
    further = urlencode({**asked.filters, "before": walked.before}) if walked.before else ""
    return {
        "asked": {**dict.fromkeys(Asked.__slots__, ""), **asked.filters},
        "first": not asked.before,
        "rows": [_row(row, asked, names, events[row.id]) for row in walked.rows],
        "looked": walked.looked,
        "reached": walked.reached,
        "ended": walked.ended,
        "next": further,
        "query": urlencode(asked.filters),
        "total": total,
        "exported": EXPORTED,
        "sources": [{"id": str(key), "name": name} for key, name in names.items()],
        "kinds": list(KINDS),
        **_offered(store),
    }


def as_csv(store: Store, asked: Asked) -> Iterator[str]:
    """The newest that were found as CSV, a piece at a time; end users are left out."""
    return csv_pieces(COLUMNS, _cells(store, asked))


def as_jsonl(store: Store, asked: Asked) -> Iterator[bytes]:
    """The same as lines of JSON: the example, its id, and what was said about it."""
    for keys in _pages(store, asked):
        for one in stored_of(store, keys):
            signals = [signal.to_dict() for signal in one.signals]
            yield _json({**one.example.to_dict(), "id": one.id, "signals": signals}) + b"\n"


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits
        return canonical_json(value).encode()


def _pages(store: Store, asked: Asked) -> Iterator[list[str]]:
    left, here = EXPORTED, asked
    while left:
        walked = walk(store, here, min(left, _AT_ONCE), _PATIENCE)
        left -= len(walked.rows)
        yield [row.id for row in walked.rows]
        if not walked.before:
            return
        here = Asked.of({**asked.filters, "before": walked.before})


def _cells(store: Store, asked: Asked) -> Iterator[list[Cell]]:
    for keys in _pages(store, asked):
        events = _events(store, keys)
        for one in stored_of(store, keys):
            example, first = one.example, one.example.provenance[0]
            yield [
                one.id,
                first.time,
                first.source,
                ", ".join(dict.fromkeys(c.source for c in example.completions if c.source)),
                ", ".join(f"{number} {kind}" for kind, number in events[one.id].items()),
                ", ".join(f"{name}={value}" for name, value in sorted(example.tags.items())),
                "\n\n".join(f"{turn.role}: {turn.content}" for turn in example.prompt),
                _BETWEEN.join(c.text for c in example.completions),
            ]


def _row(row: Any, asked: Asked, names: dict[int, str], events: dict[str, int]) -> dict[str, Any]:
    raw = orjson.loads(row.body)
    turns = [*raw["prompt"], *(m for c in raw["completions"] for m in c["messages"])]
    asking = [turn["content"] for turn in raw["prompt"] if turn["role"] == "user"]
    # A system prompt is the same in many rows: it tells none of them from the others.
    said = [turn["content"] for turn in turns if turn["role"] not in _SYSTEM]
    piece = excerpt((said if asked.words else asking) or said, asked.words)
    elsewhere = bool(asked.words) and not any(part["hit"] for part in piece)
    if elsewhere:
        piece = excerpt(asking or said or [turn["content"] for turn in turns], "")
    return {
        "id": row.id,
        "time": row.time,
        "source": names.get(row.source, ""),
        "excerpt": piece,
        "in_system": elsewhere,
        "answers": len(raw["completions"]),
        "models": list(dict.fromkeys(c["source"] for c in raw["completions"] if "source" in c)),
        "events": events,
    }


def _events(store: Store, keys: list[str]) -> dict[str, dict[str, int]]:
    """For each interaction how many events of each kind it has, thumbs as up and down."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    query = sa.select(EVENT.c.interaction, EVENT.c.kind, EVENT.c.said).where(
        EVENT.c.interaction.in_(keys), EVENT.c.erased.is_(None)
    )
    with store.reading() as connection:
        for key, kind, said in connection.execute(query):
            name = kind
            if kind == "thumb":
                name = "thumb up" if orjson.loads(said).get("label") else "thumb down"
            counts[key][name] += 1
    return defaultdict(dict, {key: dict(sorted(found.items())) for key, found in counts.items()})


def _sources(store: Store) -> tuple[dict[int, str], int]:
    """Names of the sources by number, and how many interactions there are."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(SOURCE.c.id, SOURCE.c.name).order_by(SOURCE.c.id))
        names = {row.id: row.name for row in rows}
        alive = sa.select(sa.func.count()).where(INTERACTION.c.erased.is_(None))
        return names, connection.execute(alive).scalar_one()


def _offered(store: Store) -> dict[str, list[str]]:
    """Models and tags of the newest interactions, the most frequent first."""
    models: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for row in walk(store, Asked(), _RECENT, SECONDS).rows:
        raw = orjson.loads(row.body)
        models.update({c["source"] for c in raw["completions"] if "source" in c})
        tags.update(f"{name}={value}" for name, value in raw.get("tags", {}).items())
    repeated = [tag for tag, number in tags.most_common(_OFFERED) if number > 1]
    return {"models": [model for model, _ in models.most_common(_OFFERED)], "tags": repeated}
