"""Which examples are of one conversation."""

from __future__ import annotations

from palate.records import Completion, Example, Message


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
