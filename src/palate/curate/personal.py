"""Personal data and secrets in examples: counted, left out, or replaced.

What is replaced becomes `<EMAIL_ADDRESS>` and so on, with a number from the second value of a kind
on (`<EMAIL_ADDRESS_2>`), the same one for the same value everywhere in an example, so that an
answer still speaks of the number in the question.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from palate.config import nearest
from palate.curate.recognizers import (
    Finder,
    Found,
    card_numbers,
    ibans,
    phone_numbers,
    presidio_finder,
)
from palate.curate.rejects import EXCERPT, OnReject, reject
from palate.records import Completion, Example, Message, Reject

SECRET = "SECRET"
KINDS = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "US_ITIN",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    SECRET,
)
"""What is looked for unless a recipe says otherwise: what reaches, names or robs one person."""
MORE_KINDS = ("URL", "DATE_TIME")
"""What can be asked for too. Most addresses of pages and most dates are nobody's secret."""
_OWN: dict[str, Finder] = {
    "CREDIT_CARD": card_numbers,
    "IBAN_CODE": ibans,
    "PHONE_NUMBER": phone_numbers,
}

_CUT = 20  # characters
_QUOTING = "provider-error"  # the one reason whose detail has words of the data

Search = Callable[[str], list[Found]]


def personal_search(kinds: Sequence[str] = KINDS) -> Search:
    """A function that finds personal data of these kinds in a text, in order, without overlaps.

    Raises `ValueError` for an unknown kind, and where the packages that find are not installed.
    """
    for kind in kinds:
        if kind not in KINDS + MORE_KINDS:
            raise ValueError(
                f"data.filters.personal_kinds has the unknown kind '{kind}'"
                f"{nearest(kind, KINDS + MORE_KINDS)}"
            )
    finders: list[Finder] = [find for kind, find in _OWN.items() if kind in kinds]
    try:
        if set(kinds) - {*_OWN, SECRET}:
            finders.append(presidio_finder(kinds))
        if SECRET in kinds:
            finders.append(_secrets())
        import phonenumbers  # noqa: F401 - missing here rather than in the middle of the data
    except ImportError as error:
        raise ValueError(
            f'data.filters.personal needs {error.name}: pip install "palate[data]"'
        ) from error
    return lambda text: apart(chain.from_iterable(find(text) for find in finders))


def _secrets() -> Finder:
    from palate.curate.credentials import secret_finders

    finders = secret_finders()

    def find(text: str) -> Iterator[Found]:
        for start, end in chain.from_iterable(places(text) for places in finders):
            yield Found(start, end, SECRET, 1.0)

    return find


def apart(found: Iterable[Found]) -> list[Found]:
    """The findings in order, of those that overlap the surest, and of these the longest."""
    taken: list[Found] = []  # in order, so that only the neighbours can overlap
    for one in sorted(found, key=lambda f: (-f.score, f.start - f.end, f.start, f.kind)):
        at = bisect(taken, one)
        before, after = taken[at - 1 : at], taken[at : at + 1]
        if all(one.end <= other.start or other.end <= one.start for other in before + after):
            taken.insert(at, one)
    return taken


@dataclass(slots=True)
class Redaction:
    """The names that the values of one example get, and how often each kind was found."""

    search: Search
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    def text(self, text: str) -> str:
        """The text with every finding replaced by its name."""
        parts, at = [], 0
        for one in self.search(text):
            parts += [text[at : one.start], self._name(one.kind, text[one.start : one.end])]
            at = one.end
            self.found[one.kind] += 1
        return "".join([*parts, text[at:]])

    def _name(self, kind: str, value: str) -> str:
        key = (kind, "".join(filter(str.isalnum, value)).lower())
        if key not in self.names:
            others = sum(known == kind for known, _ in self.names)
            self.names[key] = f"<{kind}_{others + 1}>" if others else f"<{kind}>"
        return self.names[key]

    def value(self, value: Any) -> Any:
        """A JSON value with its strings redacted, JSON text inside of them too; numbers stay."""
        if isinstance(value, str):
            return self._json_text(value) if value.lstrip()[:1] in {"{", "["} else self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {name: self.value(item) for name, item in value.items()}
        return value

    def _json_text(self, text: str) -> str:
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        clean = self.value(inner)
        return text if clean == inner else json.dumps(clean, ensure_ascii=False)

    def message(self, message: Message) -> Message:
        """The message with its words and its tool calls redacted."""
        calls = tuple(self.value(call) for call in message.tool_calls)
        return replace(message, content=self.text(message.content), tool_calls=calls)

    def example(self, example: Example) -> Example:
        """The example with prompt and answers redacted; equal to it if nothing is found."""
        return replace(
            example,
            prompt=tuple(map(self.message, example.prompt)),
            completions=tuple(map(self._completion, example.completions)),
        )

    def _completion(self, completion: Completion) -> Completion:
        return replace(completion, messages=tuple(map(self.message, completion.messages)))


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search left: the examples, how many held something, and how often which kind."""

    examples: list[Example]
    concerned: int
    kinds: Counter[str]


def search_examples(
    examples: Sequence[Example], on_reject: OnReject, search: Search, mode: str
) -> Searched:
    """`report` counts, `drop` leaves out (``personal-data``), `redact` replaces.

    Searched are the messages of prompt and answers with their tool calls, not the tags. The
    excerpt of a reject is redacted, whatever the mode.
    """
    out: list[Example] = []
    kinds: Counter[str] = Counter()
    concerned = 0
    for example in examples:
        redaction = Redaction(search)
        clean = redaction.example(example)
        kinds += redaction.found
        concerned += bool(redaction.found)
        if mode == "drop" and redaction.found:
            dropped = reject(example, "personal-data", _listed(redaction.found))
            on_reject(without_personal(dropped, search))
        else:
            out.append(clean if mode == "redact" else example)
    return Searched(out, concerned, kinds)


def without_personal(found: Reject, search: Search) -> Reject:
    """The reject with its excerpt redacted, and the error that its detail may quote.

    The list of rejects is a file too. Of an excerpt that was cut, the end goes, in which half an
    address could stand.
    """
    excerpt = found.excerpt
    if len(excerpt) >= EXCERPT:
        excerpt = excerpt[:-_CUT].rpartition(" ")[0]
    redaction = Redaction(search)
    detail = redaction.text(found.detail) if found.reason == _QUOTING else found.detail
    return replace(found, excerpt=redaction.text(excerpt), detail=detail)


def _listed(kinds: Counter[str]) -> str:
    return "it holds " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
