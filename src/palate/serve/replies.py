"""The objects of OpenAI's chat completions, whole and in chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Said:
    """A choice as a client gets it: `finish` is None while it is on its way."""

    index: int
    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    logps: list[dict[str, Any]] | None = None
    finish: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The choice of a completion."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None}
        if self.calls:
            message |= {"content": self.content or None, "tool_calls": self.calls}
        return {
            "index": self.index,
            "message": message,
            "logprobs": None if self.logps is None else {"content": self.logps, "refusal": None},
            "finish_reason": self.finish,
        }

    def delta(self, *, first: bool) -> dict[str, Any]:
        """The choice of a chunk; the first one of a choice names the role."""
        delta: dict[str, Any] = {"role": "assistant", "content": self.content} if first else {}
        if self.content:
            delta["content"] = self.content
        if self.calls:
            numbered = enumerate(self.calls)
            delta["tool_calls"] = [{"index": number, **call} for number, call in numbered]
        return {
            "index": self.index,
            "delta": delta,
            "logprobs": {"content": self.logps, "refusal": None} if self.logps else None,
            "finish_reason": self.finish,
        }


class Replies:
    """What one request is answered with: every object has the same id, time and model."""

    def __init__(self, model: str, fingerprint: str) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self._created, self._model, self._fingerprint = int(time.time()), model, fingerprint

    def completion(self, said: Sequence[Said], usage: dict[str, Any]) -> dict[str, Any]:
        """The whole answer."""
        choices = [one.to_dict() for one in said]
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], usage: Any = None, *, asked: bool) -> bytes:
        """An event with some choices' deltas; `usage` stands in each where it was asked for."""
        body = {**self._head("chat.completion.chunk"), "choices": choices}
        return event({**body, "usage": usage} if asked else body)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
        }


def event(value: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def usage(prompt: int, answers: int) -> dict[str, int]:
    """Tokens of the prompt, and of all choices with the ones that ended them."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answers,
        "total_tokens": prompt + answers,
    }
