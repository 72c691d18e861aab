"""A conversation's texts: what the chat template writes for the prompt and for each turn after it.

All renderings of an example are asked for at once: a template is rendered in another process, and
one exchange for each example is cheap where one for each turn is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from palate.records import Example, Message
from palate.tokens.templates import Ask, TemplateFailed, render_chat, render_chats

Wanted = tuple[Sequence[Message], bool]
"""Messages, and whether an answer is opened after them."""


class Unusable(ValueError):
    """An example that cannot be rendered faithfully; `reason` is the slug it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Chat:
    """A tokenizer's chat template; `end_ids` are the tokens that end an answer."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = [text for text in (tokenizer.decode([i]) for i in end_ids) if text]
        self.system_joins = not _takes_system(tokenizer)

    def text(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], *, generate: bool
    ) -> str:
        """The messages as a text; raises `Unusable`."""
        (found,) = self.texts([(messages, generate)], tools)
        return _raised(found)

    def texts(
        self, wanted: Sequence[Wanted], tools: Sequence[dict[str, Any]]
    ) -> list[str | Unusable]:
        """The text of each, or why there is none."""
        asks: list[Ask] = []
        ends: list[int] = []
        for messages, generate in wanted:
            asks += self._asks(messages, tools, generate)
            ends.append(len(asks))
        # Qwen3 and its like: the empty thought is then part of the prompt, in training and in
        # sampling alike; other templates ignore the word.
        found = render_chats(self._tokenizer, asks, enable_thinking=False)
        starts = [0, *ends[:-1]]
        return [
            _checked(found[start:end], tools=bool(tools))
            for start, end in zip(starts, ends, strict=True)
        ]

    def _asks(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], generate: bool
    ) -> list[Ask]:
        """The rendering, and those that would be equal to it if the template left tools out."""
        turns = [_for_template(m) for m in messages]
        if self.system_joins:
            turns = _system_joined(turns)
        asks = [Ask(turns, tools, generate)]
        if tools:
            asks.append(Ask(turns, (), generate))
        if any("tool_calls" in turn for turn in turns):
            without = [{k: v for k, v in t.items() if k != "tool_calls"} for t in turns]
            asks.append(Ask(without, tools, generate))
        return asks

    def conversation(self, example: Example) -> Conversation:
        """All texts of an example."""
        return Conversation(self, example)

    def cut_after_end(self, text: str) -> tuple[str, str]:
        """Split an assistant turn after its end-of-turn text; the rest is context."""
        found = [(text.rfind(end), len(end)) for end in self._ends]
        best = max((at + length for at, length in found if at >= 0), default=-1)
        return (text, "") if best < 0 else (text[:best], text[best:])


class Conversation:
    """The texts of one example; what is wrong with one is raised where it is asked for."""

    def __init__(self, chat: Chat, example: Example) -> None:
        self._chat, self._example = chat, example
        wanted: list[Wanted] = [(example.prompt, True)]
        for completion in example.completions:
            for count, message in enumerate(completion.messages, 1):
                upto = [*example.prompt, *completion.messages[:count]]
                wanted.append((upto, False))
                if message.role != "assistant":
                    wanted.append((upto, True))
        self._texts = chat.texts(wanted, example.tools)

    @property
    def prompt(self) -> str:
        """The prompt, up to where the answer begins."""
        return _raised(self._texts[0])

    def spans(self, index: int) -> list[tuple[str, bool]]:
        """Text pieces of a completion after the prompt, each with whether it is trained on.

        A template may only ever add text: a shorter conversation's rendering must be the
        beginning of a longer one's.
        """
        before = self._example.completions[:index]
        texts = iter(self._texts[1 + sum(_count(c.messages) for c in before) :])
        done = self.prompt
        spans: list[tuple[str, bool]] = []
        pending = ""
        for message in self._example.completions[index].messages:
            upto = _raised(next(texts))
            if message.role != "assistant":
                opened = _raised(next(texts))
                pending += _grown(done, upto)
                pending += _grown(upto, opened)
                done = opened
                continue
            answer, tail = self._chat.cut_after_end(_grown(done, upto))
            if pending:
                spans.append((pending, False))
            spans.append((answer, True))
            pending, done = tail, upto
        return spans


def _count(messages: Sequence[Message]) -> int:
    """Texts of a completion: one for each turn, and one more where an answer is opened after it."""
    return sum(1 if message.role == "assistant" else 2 for message in messages)


def _raised(found: str | Unusable) -> str:
    if isinstance(found, Unusable):
        raise found
    return found


def _checked(found: Sequence[str | TemplateFailed], *, tools: bool) -> str | Unusable:
    """The first, unless a rendering without tools or without calls is equal to it."""
    for one in found:
        if isinstance(one, TemplateFailed):
            return Unusable("template-error", str(one))
    text = found[0]
    assert isinstance(text, str)
    if tools and text == found[1]:
        return Unusable("template-ignores-tools", "the chat template leaves the tools out")
    if text in found[1 + tools :]:
        return Unusable("template-ignores-tools", "the chat template leaves calls out")
    return text


def _grown(before: str, after: str) -> str:
    if not after.startswith(before):
        raise Unusable(
            "rewrites-history",
            "the chat template renders earlier turns differently once an answer follows",
        )
    return after[len(before) :]


def _takes_system(tokenizer: Any) -> bool:
    """Whether the template accepts a system turn; Gemma's, for one, raises."""
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    try:
        render_chat(tokenizer, turns)
    except TemplateFailed:
        return False
    return True


def _system_joined(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system prompt at the head of the first user turn, as Gemma's authors advise."""
    if len(turns) < 2 or turns[0]["role"] != "system" or turns[1]["role"] != "user":
        return turns
    joined = f"{turns[0]['content']}\n\n{turns[1]['content']}"
    return [{**turns[1], "content": joined}, *turns[2:]]


def _for_template(message: Message) -> dict[str, Any]:
    """Templates want a tool call's arguments as an object; APIs log them as JSON text."""
    out = message.to_dict()
    if message.role == "developer":
        out["role"] = "system"
    for call in out.get("tool_calls", ()):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                arguments = json.loads(function["arguments"])
            except ValueError:
                continue
            call["function"] = {**function, "arguments": arguments}
    return out
