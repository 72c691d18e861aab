"""Who voted what on which item: pairs of annotators, repeated votes, people against judges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from palate.judge.agreement import Agreement, agreement
from palate.records import JUDGE

FIRST, SECOND, TIE, BOTH_BAD = "first", "second", "tie", "both bad"
UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's word on one item.

    Of two answers the words are ``first`` and ``second`` (by their index in the interaction, not
    by their place on the screen), ``tie`` and ``both bad``; of a single one ``up`` and ``down``.
    `step` is the preference on a scale from −1 (clearly the second) to 1 (clearly the first), None
    where the strength is not known. `shown` is the answer that stood first on the screen.
    """

    item: str
    by: str
    word: str
    step: float | None = None
    shown: str | None = None

    @property
    def judged(self) -> bool:
        """Whether a judge of ours said it, and no person."""
        return self.by.startswith(JUDGE)


Table = Mapping[str, Mapping[str, Vote]]
"""item → annotator → that annotator's first vote on it."""


def by_item(votes: Iterable[Vote]) -> dict[str, dict[str, Vote]]:
    """Each annotator's first vote on each item; a repetition is for `repeats` alone.

    The votes come in the order in which they were given.
    """
    table: dict[str, dict[str, Vote]] = defaultdict(dict)
    for vote in votes:
        table[vote.item].setdefault(vote.by, vote)
    return dict(table)


def people(table: Table) -> dict[str, dict[str, Vote]]:
    """The same without the judges' votes, and without items that no person voted on."""
    found = {
        item: {by: vote for by, vote in voices.items() if not vote.judged}
        for item, voices in table.items()
    }
    return {item: voices for item, voices in found.items() if voices}


def pairwise(table: Table) -> dict[tuple[str, str], Agreement]:
    """Cohen's κ of every two annotators who voted on an item in common, by their names."""
    said: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for voices in table.values():
        for one, other in combinations(sorted(voices), 2):
            both = said.setdefault((one, other), ([], []))
            both[0].append(voices[one].word)
            both[1].append(voices[other].word)
    return {pair: agreement(*both) for pair, both in sorted(said.items())}


def majority(words: Iterable[str]) -> str | None:
    """The word that more annotators said than any other; None where two were said as often."""
    ranked = Counter(words).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def against_people(table: Table) -> dict[str, Agreement]:
    """How far each judge says what the majority of people says, by the judge's name.

    Items on which people are divided equally have no majority, and are left out.
    """
    said: dict[str, tuple[list[str], list[str]]] = {}
    for voices in table.values():
        judges = [vote for vote in voices.values() if vote.judged]
        for vote in judges:
            said.setdefault(vote.by, ([], []))
        word = majority(vote.word for vote in voices.values() if not vote.judged)
        if word is None:
            continue
        for vote in judges:
            said[vote.by][0].append(word)
            said[vote.by][1].append(vote.word)
    return {judge: agreement(*both) for judge, both in sorted(said.items())}


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of `count` items that an annotator saw twice, the same word was given on `same`.

    `swapped` of them had the answers the other way round the second time, and on `swapped_same` of
    those the word was the same.
    """

    count: int = 0
    same: int = 0
    swapped: int = 0
    swapped_same: int = 0


def repeats(votes: Iterable[Vote]) -> dict[str, Repeats]:
    """How often each annotator says the same again: the first two votes on each item."""
    earlier: dict[tuple[str, str], list[Vote]] = defaultdict(list)
    for vote in votes:
        earlier[vote.by, vote.item].append(vote)
    found: dict[str, list[Sequence[Vote]]] = defaultdict(list)
    for (by, _), given in earlier.items():
        found[by] += [given[:2]] if len(given) > 1 else []
    return {by: _counted(pairs) for by, pairs in sorted(found.items())}


def _counted(pairs: Sequence[Sequence[Vote]]) -> Repeats:
    same = [one.word == other.word for one, other in pairs]
    turned = [
        one.shown is not None and other.shown is not None and one.shown != other.shown
        for one, other in pairs
    ]
    both = sum(a and b for a, b in zip(same, turned, strict=True))
    return Repeats(len(pairs), sum(same), sum(turned), both)


def placed(votes: Iterable[Vote]) -> dict[str, tuple[int, int]]:
    """For each annotator: votes for the answer that was shown first, and for the other.

    Ties, and votes of which the place was not recorded, are in neither.
    """
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for vote in votes:
        counts = found[vote.by]
        if vote.word in {FIRST, SECOND} and vote.shown is not None:
            counts[vote.word != vote.shown] += 1
    return {by: (first, other) for by, (first, other) in sorted(found.items())}
