"""Which items come first: those from which a person's word tells most.

In this order, and within each by chance that is the same for everybody:

1. people, or judges, or people and judges disagree about the two answers;
2. whoever judged them saw little between them: a small gap of scores, or a judge that was unsure;
3. nobody has judged them;
4. somebody has, clearly.

Of several items of one prompt the second comes after the others' first. Items that say again what
an earlier one says, in the same words or nearly, come last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median

from palate.store.items import Item

DISAGREED, CLOSE, UNJUDGED, CLEAR = range(4)
UNSURE = 0.5
"""A judge whose P(better) is under ¾, on a scale from even (0) to certain (1), was unsure."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is known of an item: whether anybody has judged it, or two of them apart.

    `gap` is the distance between the answers as votes see it, from 0 (even) to 1 (certain);
    `scores` is that between their scores, in whatever unit these have.
    """

    judged: bool = False
    disagreed: bool = False
    gap: float | None = None
    scores: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that may be shown. `key` is its `canonical` name.

    `prompt` and `content` are equal for equal words, and `like` are hashes of which prompts that
    are nearly the same share at least one.
    """

    key: str
    item: Item
    prompt: int
    content: int
    like: tuple[int, ...]
    opinion: Opinion


def canonical(item: Item) -> str:
    """A name under which an item stays known when an interaction is made of its two."""
    return f"{item.stands}.{'.'.join(map(str, sorted(item.places)))}"


def share(*words: str) -> float:
    """A number in [0, 1) that follows from the words: a draw that everybody gets alike."""
    text = "\x00".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(text).digest()[:7], "big") / 2**56


def ranked(candidates: Iterable[Candidate], shown: Collection[str] = ()) -> tuple[Candidate, ...]:
    """The candidates in the order in which they are shown.

    `shown` are the keys of those that somebody has seen already: what repeats them comes last.
    """
    listed = sorted(candidates, key=lambda one: (one.key in shown, share("rank", one.key)))
    gaps = [one.opinion.scores for one in listed if one.opinion.scores is not None]
    middle = median(gaps) if gaps else 0.0
    turns: Counter[int] = Counter()
    keyed = []
    for one in sorted(listed, key=lambda one: _worth(one.opinion, middle)):
        keyed.append((_worth(one.opinion, middle)[0], turns[one.prompt], one))
        turns[one.prompt] += 1
    # Sorting is stable: within these the order by gap, and then by chance, stays.
    keyed.sort(key=lambda each: each[:2])
    return _repeats_last([one for _, _, one in keyed], shown)


def _worth(opinion: Opinion, middle: float) -> tuple[int, float]:
    """(the tier, how close the answers are within it); the least comes first."""
    if opinion.disagreed:
        return DISAGREED, 0.0
    if opinion.gap is not None and opinion.gap < UNSURE:
        return CLOSE, opinion.gap
    if opinion.scores is not None and opinion.scores <= middle and opinion.gap is None:
        # Half of all gaps are small, which puts scores of any unit beside the votes' gaps.
        return CLOSE, UNSURE * opinion.scores / middle if middle else 0.0
    judged = opinion.judged or opinion.scores is not None
    return (CLEAR if judged else UNJUDGED), 0.0


def _repeats_last(listed: Sequence[Candidate], shown: Collection[str]) -> tuple[Candidate, ...]:
    """First what is new, in its order, then what repeats what was shown, or what comes first."""
    contents: set[int] = set()
    like: dict[int, int] = {}  # the prompt under which a hash was met first
    new: list[Candidate] = []
    again: list[Candidate] = []
    first = [one for one in listed if one.key in shown]
    for one in [*first, *(one for one in listed if one.key not in shown)]:
        alike = any(like.setdefault(mark, one.prompt) != one.prompt for mark in one.like)
        repeated = one.content in contents or alike
        contents.add(one.content)
        (again if repeated and one.key not in shown else new).append(one)
    order = {id(one): place for place, one in enumerate(listed)}
    new.sort(key=lambda one: order[id(one)])
    return (*new, *again)
