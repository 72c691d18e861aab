"""Surface features of an answer: what can be seen of it without reading it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.curate.lint.shares import Floats
from palate.curate.lint.text import words
from palate.curate.lint.view import View

MOST_OPENINGS = 60
# An opening, or a feature, must tell the two answers apart in so many of the pairs: what is
# rarer teaches little, whichever way it points.
COVERED, COVERED_PAIRS = 0.05, 20

_WHO = r"\b(?:i|we)(?:['\u2019]m| am| are)?"
_CANNOT = (
    r"(?:can(?:['\u2019]t|not| not)|won['\u2019]t|will not|must decline to|unable to|not able to|"
    r"not allowed to)"
)
_DO = (
    "(?:help|assist|provide|answer|do that|comply|create|write|generate|fulfil|discuss|support|"
    "continue|engage|recommend|give|offer|share|access|browse|open|participate|respond)"
)
_REFUSAL = rf"\bas an ai\b|\b(?:ai )?language model\b|{_WHO} {_CANNOT} {_DO}\b"


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing to look for in an answer. `name` never changes; `said` completes "an answer"."""

    name: str
    said: str
    pattern: re.Pattern[str]


FEATURES = tuple(
    Feature(name, said, re.compile(pattern, re.IGNORECASE | re.MULTILINE))
    for name, said, pattern in (
        ("headings", "with headings", r"^ {0,3}#{1,6} \S"),
        ("bullets", "with a bulleted list", r"^[ \t]*[-*\u2022+] \S"),
        ("numbered", "with a numbered list", r"^[ \t]*\d{1,3}[.)] \S"),
        ("bold", "with bold words", r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
        ("code", "with a code block", r"^[ \t]*```"),
        ("table", "with a table", r"^[ \t]*\|.*\|[ \t]*$"),
        ("paragraphs", "in several paragraphs", r"\S[ \t]*\n[ \t]*\n[ \t]*\S"),
        ("emoji", "with emoji", "[\U0001f300-\U0001faff\u2600-\u27bf]"),
        ("exclamation", "with an exclamation mark", r"[!\uff01]"),
        ("question", "that ends with a question", r"[?\uff1f][\"'\u201d\u2019)\]*_]*\s*\Z"),
        ("digits", "with digits", r"\d(?!\d{0,2}[.)]\s)"),  # not the number of a list's item
        ("link", "with a web address", r"https?://|\bwww\."),
        ("apology", "that apologises", r"\b(?:sorry|apologi[sz]e|apologies)\b"),
        ("refusal", "that refuses", _REFUSAL),
    )
)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the answers of the contests, winner minus loser, one row for each contest.

    `lengths` has the sign of the difference in words, the difference of the log lengths and of
    their squares; `features` and `openings` hold +1 where only the winner has the thing, −1 where
    only the loser has it. `opening_names` are the openings, in the columns' order.
    """

    lengths: Floats
    features: Floats
    openings: Floats
    opening_names: tuple[str, ...]

    @property
    def whole(self) -> Floats:
        """All columns."""
        return np.concatenate([self.lengths, self.features, self.openings], axis=1)


def form_of(view: View) -> Form:
    """The form of all contests."""
    contests = view.contests
    texts = [
        [view.answers[int(at)].text for at in side] for side in (contests.winners, contests.losers)
    ]
    names = _common_openings(texts[0] + texts[1])
    words_N = view.lengths[contests.winners] - view.lengths[contests.losers]
    log = np.log1p(view.lengths)
    log_N = log[contests.winners] - log[contests.losers]
    square_N = log[contests.winners] ** 2 - log[contests.losers] ** 2
    marks = [np.array([_features_of(text) for text in side], np.float64) for side in texts]
    opens = [np.array([_opens_with(text, names) for text in side], np.float64) for side in texts]
    return Form(
        lengths=np.stack([np.sign(words_N), _standard(log_N), _standard(square_N)], axis=1),
        features=marks[0] - marks[1],
        openings=(opens[0] - opens[1]).reshape(len(contests), len(names)),
        opening_names=names,
    )


def covered(difference_N: Floats) -> bool:
    """Whether a feature tells the two answers apart often enough to be looked at."""
    differing = np.count_nonzero(difference_N)
    return bool(differing >= max(COVERED_PAIRS, COVERED * len(difference_N)))


def openings_of(text: str) -> tuple[str, ...]:
    """The first word, the first two and the first three words of a text."""
    first = words(text[:200])[:3]
    return tuple(" ".join(first[:count]) for count in range(1, len(first) + 1))


def _features_of(text: str) -> list[bool]:
    return [feature.pattern.search(text) is not None for feature in FEATURES]


def _common_openings(texts: Sequence[str]) -> tuple[str, ...]:
    """What so many answers begin with that it could tell enough pairs apart; no verdict is used."""
    counts = Counter(opening for text in texts for opening in openings_of(text))
    least = max(COVERED_PAIRS, COVERED * len(texts) / 2) / 2
    ranked = sorted((-count, name) for name, count in counts.items() if count >= least)
    return tuple(name for _, name in ranked[:MOST_OPENINGS])


def _opens_with(text: str, names: Sequence[str]) -> list[bool]:
    own = set(openings_of(text))
    return [name in own for name in names]


def _standard(values_N: Floats) -> Floats:
    spread = float(np.sqrt(np.mean(values_N**2))) if len(values_N) else 0.0
    return values_N / spread if spread else values_N
