"""What Open WebUI writes into an answer beside the answer: `<details type="…">` blocks.

Tool calls and their results stand there as attributes, in JSON and then in HTML's escapes, and
become turns of their own. What the model thought or ran aloud is left out, as Open WebUI itself
does when it sends the chat on.
"""

from __future__ import annotations

import html
import re
from typing import Any

from palate.ingest.dialects import call
from palate.ingest.messages import decoded
from palate.records import Message, RecordError, canonical_json

_UNSPOKEN = re.compile(
    r"<details\b[^>]*\btype=\"(?:reasoning|code_interpreter)\".*?</details>\s*", re.DOTALL
)
_CALL = re.compile(
    r"<details\b(?P<about>[^>]*\btype=\"tool_calls\"[^>]*)>(?P<inside>.*?)</details>\s*", re.DOTALL
)
_ATTRIBUTE = re.compile(r"([\w-]+)=\"([^\"]*)\"")
_SUMMARY = re.compile(r"\s*<summary>.*?</summary>\s*", re.DOTALL)


def spoken(content: str) -> str:
    """The content without what was not meant for the user."""
    return _UNSPOKEN.sub("", content)


def turns_of(content: str) -> tuple[Message, ...]:
    """An answer as turns: what was said and called, what each tool gave, what was said then.

    Calls that follow each other without a word between them are of one turn.
    """
    turns: list[Message] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    said, at, content = "", 0, spoken(content)
    for block in _CALL.finditer(content):
        between = content[at : block.start()].strip()
        if between and calls:
            turns += [Message("assistant", said, tuple(calls)), *results]
            said, calls, results = "", [], []
        said = between or said
        made, result = _called(block)
        calls.append(made)
        results.append(result)
        at = block.end()
    if not calls:
        return (Message("assistant", content),)
    turns += [Message("assistant", said, tuple(calls)), *results]
    return (*turns, Message("assistant", content[at:].strip()))


def _called(block: re.Match[str]) -> tuple[dict[str, Any], Message]:
    """The call of a block, and the turn of its result."""
    found = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(block["about"])}
    said = found.get("result") or html.unescape(_SUMMARY.sub("", block["inside"], count=1)).strip()
    if found.get("done") == "false" or not said:
        raise RecordError("bad-tool-call", "a tool call of the chat has no result")
    made = call(found.get("name"), _value(found.get("arguments")), found.get("id"), "the chat")
    result = _value(said)
    text = result if isinstance(result, str) else canonical_json(result)
    return made, Message("tool", text, tool_call_id=found.get("id"))


def _value(written: str | None) -> Any:
    """What a value of an attribute is: text that is JSON of a text is that text."""
    if written and written[0] == '"':
        inside = decoded(f"[{written}]")
        return inside[0] if isinstance(inside, list) and len(inside) == 1 else written
    return decoded(written)
