"""The answers that the report shows side by side: from samples.jsonl to plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from palate.evaluate.answers import Answer
from palate.evaluate.runfolder import RunFiles
from palate.evaluate.wording import clean, plural
from palate.records import Message, canonical_json

SHOWN = 24  # prompts in the report; the rest stays in samples.jsonl


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer as the page shows it."""

    text: str
    verdict: str
    passed: bool | None
    size: str


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """A held-out prompt with its answers: `asked` is the last user turn."""

    asked: str
    system: str
    earlier: tuple[tuple[str, str], ...]
    before: tuple[ShownAnswer, ...]
    after: tuple[ShownAnswer, ...]


def prompts(run: RunFiles) -> tuple[list[ShownPrompt], int]:
    """The first prompts of samples.jsonl, in its order, and how many there are in all."""
    groups: dict[str, list[Answer]] = {}
    for answer in run.answers:
        groups.setdefault(answer.group, []).append(answer)
    return [_shown(answers) for answers in list(groups.values())[:SHOWN]], len(groups)


def one_system(shown: list[ShownPrompt]) -> str | None:
    """The system prompt, if all prompts have the same one."""
    found = {prompt.system for prompt in shown}
    return found.pop() if len(found) == 1 else None


def _shown(answers: list[Answer]) -> ShownPrompt:
    messages = list(answers[0].prompt)
    system = [_said(m) for m in messages if m.role in ("system", "developer")]
    turns = [m for m in messages if m.role not in ("system", "developer")]
    users = [i for i, m in enumerate(turns) if m.role == "user"]
    last = users[-1] if users else len(turns) - 1
    return ShownPrompt(
        asked=_said(turns[last]) if turns else "",
        system="\n\n".join(system),
        earlier=tuple((clean(m.role), _said(m)) for i, m in enumerate(turns) if i != last),
        before=tuple(_answer(a) for a in answers if a.stage == "before"),
        after=tuple(_answer(a) for a in answers if a.stage == "after"),
    )


def _said(message: Message) -> str:
    """A turn's words; of a tool call, its JSON."""
    words: Any = message.content  # as read from a file, so perhaps null
    if not isinstance(words, str) or (not words and message.tool_calls):
        words = canonical_json([words, *message.tool_calls])
    return clean(words)


def _answer(answer: Answer) -> ShownAnswer:
    result = answer.result
    if result is None:
        verdict = "not scored"
    elif result.passed:
        verdict = "follows the rule"
    else:
        verdict = f"fails: {', '.join(result.failed)}" if result.failed else "fails"
    size = plural(len(answer.text.split()), "word")
    size += "" if answer.finished else ", cut at the limit"
    return ShownAnswer(clean(answer.text), clean(verdict), result.passed if result else None, size)
