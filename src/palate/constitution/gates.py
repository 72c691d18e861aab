"""What keeps a revision from becoming a demonstration, each under a short, stable reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from palate.speak.speaker import Reply

COPIED = 8
"""Words in a row that a revision may not share with the critique, the requests or the examples."""

REASONS = {
    "empty": "there is no text",
    "truncated": "the revision reached the limit of tokens",
    "unchanged": "the revision says what the answer before it said",
    "leak": "the revision speaks about the critique, or copies from it",
}

_KINDS = r"(?:answer|reply|response|version|revision|rewrite|draft)"
_ABOUT = re.compile(
    "|".join(
        (
            r"\bcritiques?\b",
            rf"\b(?:revised|rewritten|improved|original|previous) {_KINDS}\b",
            rf"^(?:sure|certainly|of course|here is|here's|here’s)\b[^.!?\n]{{0,60}}\b{_KINDS}\b",
            r"^\s*(?:conversation|answer|person|system|assistant|revision)\s*:",
            r"<<<|>>>",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)


def why_not(
    revision: Reply,
    before: str,
    *,
    said: Sequence[str],
    critique: str,
    ours: Iterable[str],
) -> str | None:
    """The reason why a revision is no good, or None where it is.

    `before` is the answer that was to be revised, `said` what stands in the conversation, and
    `ours` the wording of requests and examples. What the conversation or the answer before says
    itself is no leak.
    """
    if revision.failure is not None:
        return revision.failure
    if not _words(revision.text):
        return "empty"
    if not revision.finished:
        return "truncated"
    if same(revision.text, before):
        return "unchanged"
    return "leak" if _leaks(revision.text, [*said, before], [critique, *ours]) else None


def _leaks(text: str, theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Whether the text speaks about the revision, or copies what only we said."""
    known = {found.casefold() for one in theirs for found in _ABOUT.findall(one)}
    if any(found.casefold() not in known for found in _ABOUT.findall(text)):
        return True
    copied = _runs(text) & {run for one in ours for run in _runs(one)}
    return bool(copied - {run for one in theirs for run in _runs(one)})


def same(one: str, other: str) -> bool:
    """Whether two texts have the same words, whatever their case and punctuation."""
    return _words(one) == _words(other)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + COPIED]) for i in range(len(words) - COPIED + 1)}
