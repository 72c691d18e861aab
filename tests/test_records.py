"""Which examples are of one conversation, and signals as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from palate.records import Completion, Example, Message, Signal


def turns(*said: str) -> tuple[Message, ...]:
    """System, user, assistant, user, …"""
    roles = ["system", *["user", "assistant"] * len(said)]
    return tuple(Message(role, text) for role, text in zip(roles, said, strict=False))


def example(*said: str, **tags: str) -> Example:
    return Example(turns(*said), (Completion((Message("assistant", "yes"),)),), tags=tags)


def test_a_tag_names_the_conversation() -> None:
    first = example("s", "hello", conversation="c1")
    assert first.conversation == example("s", "other", conversation="c1").conversation
    assert first.conversation != example("s", "hello", conversation="c2").conversation
    assert first.conversation != example("s", "hello", session_id="c1").conversation
    both = example("s", "hello", conversation="c1", session_id="s9")
    assert both.conversation == first.conversation, "a session may hold several"


def test_without_a_tag_the_opening_does() -> None:
    first = example("s", "hello")
    assert first.conversation == example("s", "hello", "hi", "and then?").conversation
    assert first.conversation != example("s", "goodbye").conversation
    assert first.conversation != example("another system", "hello").conversation
    assert first.conversation == example("s", "hello", topic="x").conversation
    greeted = Example(
        (Message("system", "s"), Message("assistant", "Welcome"), Message("user", "hello")), ()
    )
    longer = Example((*greeted.prompt, Message("assistant", "hi"), Message("user", "b")), ())
    assert greeted.conversation == longer.conversation != first.conversation


def test_a_signal_comes_back_from_json_with_and_without_what_was_shown() -> None:
    plain = Signal(("o:1",), "vote", 1, over=0, by="ann")
    shown = replace(plain, shown=(1, 0))
    assert plain.to_dict() == {"kind": "vote", "choice": 1, "over": 0, "by": "ann"}
    assert shown.to_dict() == plain.to_dict() | {"shown": [1, 0]}
    for signal in (plain, shown):
        assert Signal.from_dict(json.loads(json.dumps(signal.to_dict())), ("o:1",)) == signal
