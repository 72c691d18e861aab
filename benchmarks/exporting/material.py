"""Examples of every shape that are hard to carry: tools that differ, calls, several turns."""

from __future__ import annotations

from typing import Any

from palate.records import Completion, Example, Message, Verdict

SYSTEM = Message("system", "You answer for a bicycle shop. 🚲")


def examples() -> dict[str, list[Example]]:
    """By shape; the tools of any two differ, as do the arguments of their calls."""
    pairs = [_pair(number) for number in range(6)]
    labelled = [_labelled(number) for number in range(6)]
    return {
        "pair": pairs,
        "labelled": labelled,
        "demonstration": [_demonstration(number) for number in range(4)],
        "text": [Example((), (_said("A document.\n\nWith two paragraphs."),))],
    }


def _said(text: str, label: bool | None = None) -> Completion:
    return Completion((Message("assistant", text),), label=label)


def _asked(number: int) -> tuple[Message, ...]:
    """A prompt: short, with a system prompt, or with a history."""
    question = Message("user", f"Where is order {number}? “quoted” {{braces}}")
    history = (Message("user", "Hi"), Message("assistant", "Hello!"))
    return [(question,), (SYSTEM, question), (SYSTEM, *history, question)][number % 3]


def _tool(number: int) -> dict[str, Any]:
    properties = {f"field_{number}": {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": [f"field_{number}"]}
    return {"type": "function", "function": {"name": f"find_{number}", "parameters": parameters}}


def _calling(number: int) -> tuple[Message, ...]:
    arguments = {f"field_{number}": f"value {number}"}
    call = {"type": "function", "function": {"name": f"find_{number}", "arguments": arguments}}
    return (
        Message("assistant", "", (call,)),
        Message("tool", f'{{"status_{number}": true}}'),
    )


def _pair(number: int) -> Example:
    prompt = _asked(number)
    tools = (_tool(number),) if number % 2 else ()
    if tools:
        prompt = (*prompt, *_calling(number))
    answers = (_said(f"I do not know {number}."), _said(f"On its way {number}."))
    return Example(prompt, answers, Verdict(1, 0), tools=tools)


def _labelled(number: int) -> Example:
    prompt = _asked(number % 2)  # no history: one of the targets has no room for it
    return Example(prompt, (_said(f"Answer {number}.", label=number % 2 == 0),))


def _demonstration(number: int) -> Example:
    turns = (Message("assistant", f"Answer {number}."), Message("user", "Thanks"))
    answer = Completion((*turns, Message("assistant", "You are welcome.")))
    return Example(_asked(number % 2), (answer,))
