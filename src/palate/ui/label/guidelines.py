"""The guidelines for annotators: a text or Markdown file as headings, paragraphs and lists.

The file is the owner's, but it is shown as text all the same: what looks like markup is letters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LARGEST = 1 << 17  # bytes that are shown
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*")
_POINT = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(.*)")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")


def read_guidelines(path: Path | None) -> list[dict[str, Any]]:
    """Blocks in their order: `kind` heading or text with its `text`, or list with its `points`.

    No path gives no block. Raises `ValueError` if the file cannot be read.
    """
    if path is None:
        return []
    try:
        with path.open("rb") as handle:
            text = handle.read(LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise ValueError(f"the guidelines {path} cannot be read: {error.strerror}") from None
    return blocks(text)


def blocks(text: str) -> list[dict[str, Any]]:
    """The text's blocks; the lines of a paragraph or a point are joined."""
    found: list[dict[str, Any]] = []
    fresh = True  # whether the next line begins a block
    for line in text.removeprefix("\ufeff").splitlines():
        if not line.strip():
            fresh = True
        elif heading := _HEADING.fullmatch(line.strip()):
            found.append({"kind": "heading", "text": _plain(heading[1])})
            fresh = True
        elif point := _POINT.fullmatch(line):
            if not found or found[-1]["kind"] != "list":
                found.append({"kind": "list", "points": []})
            found[-1]["points"].append(_plain(point[1]))
            fresh = False
        elif fresh or not found or found[-1]["kind"] == "heading":
            found.append({"kind": "text", "text": _plain(line)})
            fresh = False
        elif found[-1]["kind"] == "list":
            found[-1]["points"][-1] += f" {_plain(line)}"
        else:
            found[-1]["text"] += f" {_plain(line)}"
    return found


def _plain(text: str) -> str:
    """Without the marks of emphasis, which would be noise where all is text."""
    return _EMPHASIS.sub(r"\2", text.strip())
