"""What an example says: the parts of it that filters look at."""

from __future__ import annotations

from collections.abc import Sequence

from palate.records import Completion, Example, canonical_json


def compared(example: Example) -> Sequence[Completion]:
    """The answers that an example is about: chosen and rejected, or all."""
    if example.verdict is None:
        return example.completions
    return example.chosen, example.rejected


def learned(example: Example) -> Sequence[Completion]:
    """The answers that training makes more likely; of the others much may be wrong."""
    if example.verdict is not None:
        return (example.chosen,)
    return [c for c in example.completions if c.label is not False]


def asked(example: Example) -> str:
    """What the user said, all turns; of a prompt without user everything, of a text its words.

    A system prompt and a greeting, which all prompts of a product share, tell nothing apart.
    """
    if not example.prompt:
        return answer_text(example.completions[0])
    said = [message.content for message in example.prompt if message.role == "user"]
    return "\n".join(said or [message.content for message in example.prompt])


def answer_text(completion: Completion) -> str:
    """All turns of an answer, tool calls as JSON."""
    parts = (
        part
        for message in completion.messages
        for part in (message.content, *map(canonical_json, message.tool_calls))
    )
    return "\n".join(part for part in parts if part)
