"""Tool calls in the text of an answer, where the model's template has a format that is known.

Two are: JSON between `<tool_call>` and `</tool_call>` (Hermes, Qwen), and an answer that is one
JSON object with a name and its parameters (Llama 3). The text of other models stays text.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from typing import Any, Literal

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
Format = Literal["tags", "object"]


def format_of(template: str | None) -> Format | None:
    """How a chat template has its model write calls, None where that is not known."""
    if not template:
        return None
    if _OPEN in template:
        return "tags"
    return "object" if '"parameters"' in template and "tool" in template else None


class ToolReader:
    """Takes an answer's text as it grows; gives what is no call, and in the end the calls."""

    def __init__(self, format: Format | None, names: Collection[str]) -> None:
        self._format, self._names = format, set(names)
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that can be shown now: none from where a call may begin."""
        if self._format is None:
            return text
        self._held += text
        begin = self._begin()
        shown, self._held = self._held[:begin], self._held[begin:]
        return shown

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """The rest of the text, and the calls; a call that cannot be read is text."""
        held, self._held = self._held, ""
        calls: list[dict[str, Any]] = []
        rest = ""
        if self._format == "tags" and held.startswith(_OPEN):
            calls, rest = self._tagged(held)
        elif self._format == "object" and held.strip().startswith("{"):
            calls = self._objects([held])
        return (rest, calls) if calls else (held, [])

    def _begin(self) -> int:
        """Where a call begins in what is held, or might."""
        if self._format == "object":
            return 0 if self._held.lstrip()[:1] in {"{", ""} else len(self._held)
        at = self._held.find(_OPEN)
        if at >= 0:
            return at
        sizes = range(min(len(self._held), len(_OPEN) - 1), 0, -1)
        keep = next((size for size in sizes if self._held.endswith(_OPEN[:size])), 0)
        return len(self._held) - keep

    def _tagged(self, text: str) -> tuple[list[dict[str, Any]], str]:
        """The calls, and the words that stand between and after them."""
        parts = [part.partition(_CLOSE) for part in text.split(_OPEN)[1:]]
        words = "".join(after for _, _, after in parts if after.strip())
        return self._objects([inner for inner, _, _ in parts]), words

    def _objects(self, texts: list[str]) -> list[dict[str, Any]]:
        """All of them as calls of tools that were offered, or none."""
        calls = []
        for written in texts:
            try:
                said = json.loads(written)
                name, given = said["name"], said.get("arguments", said.get("parameters", {}))
                text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
                text.encode()  # half of a surrogate pair can be sent to nobody
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return []
            if not isinstance(name, str) or name not in self._names:
                return []
            calls.append(
                {
                    "id": f"call_{secrets.token_hex(12)}",
                    "type": "function",
                    "function": {"name": name, "arguments": text},
                }
            )
        return calls
