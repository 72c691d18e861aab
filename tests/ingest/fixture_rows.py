"""The fixtures: a small file for each format, in the shape that its vendor documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palate.ingest import read_arrivals
from palate.records import Arrival, Completion, Message, Signal

FIXTURES = Path(__file__).parent / "fixtures"

# What the fixtures' conversations share.
SYSTEM = Message("system", "You answer for a bicycle shop.")
ASKED = Message("user", "Where is my order A-17?")
FOUND = '{"status": "shipped"}'
SHIPPED = Message("assistant", "It left us yesterday and arrives on Friday.")
RENT = Message("user", "Do you rent out helmets?")
FIVE = Message("assistant", "Yes, for 5 a day.")
HI = Message("user", "Hi")
HELLO = Message("assistant", "Hello!")
TOOL = {
    "type": "function",
    "function": {
        "name": "find_order",
        "description": "Look an order up",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}},
            "required": ["number"],
        },
    },
}


def tool_call(arguments: object, key: str | None = "call_7f") -> dict[str, Any]:
    """The call that the fixtures make."""
    said = {"type": "function", "function": {"name": "find_order", "arguments": arguments}}
    return said if key is None else {"id": key, **said}


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a fixture."""
    lines = (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read(name: str) -> tuple[dict[int, list[Arrival]], dict[int, str]]:
    """What each line of a fixture gives, and the reasons of those that give nothing."""
    rejects: dict[int, str] = {}
    found: dict[int, list[Arrival]] = {}
    path = FIXTURES / f"{name}.jsonl"
    for arrival in read_arrivals(
        path, on_reject=lambda reject: rejects.setdefault(reject.line, reject.reason)
    ):
        found.setdefault(arrival.record.provenance[0].line, []).append(arrival)
    return found, rejects


def answer(*turns: Message, **said: Any) -> Completion:
    """A completion of these turns."""
    return Completion(turns, **said)


def signals(arrivals: list[Arrival]) -> list[dict[str, Any]]:
    """What the signals among the arrivals say."""
    return [a.record.to_dict() for a in arrivals if isinstance(a.record, Signal)]
