"""How the examples of a step are shared out among processes that train together.

A pure function of the rows, so that every rank finds the same division by itself. What is balanced
is the cost that the tokens, the scored tokens and the attention are predicted to have. Rows that
share a beginning stay together where the balance allows: what is shared counts once in a part, so
that tearing it apart costs what it costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palate.tokens.render import Rendered
from palate.tokens.tree import common_prefix

# A part that is this much above the mean is not worth another exchange.
_EVEN = 0.01
# Of the parts that the heaviest could exchange with, the lightest so many are tried; of the
# exchanges with one, so many are looked at exactly.
_PARTNERS, _LOOKED_AT = 8, 4


@dataclass(frozen=True, slots=True)
class Price:
    """What a forward pass pays for each unique token, scored token and (query, key) pair."""

    token: int = 1
    scored: int = 0
    pair: int = 0

    def shared(self, length: int) -> int:
        """A beginning of so many tokens, which a part computes once."""
        return self.token * length + self.pair * (length * (length + 1) // 2)

    def of(self, example: Rendered, *, share: bool) -> int:
        """An example by itself; an estimate, as answers may begin alike."""
        lengths = [len(branch.ids) for branch in example.branches]
        scored = sum(sum(branch.mask) for branch in example.branches)
        if share:
            start = example.prompt_length
            apart = sum(self.shared(length) - self.shared(start) for length in lengths)
            return self.shared(start) + apart + self.scored * scored
        return len(lengths) * self.shared(max(lengths)) + self.scored * scored


TOKENS = Price()


def divide(
    examples: Sequence[Rendered],
    rows: Sequence[int],
    parts: int,
    *,
    share: bool = True,
    price: Price = TOKENS,
) -> list[list[int]]:
    """`rows` in `parts`, each in token order, so that the dearest is as cheap as was found.

    Without `share` every example is computed by itself. With fewer rows than parts some are empty.
    """
    if parts == 1:
        return [list(rows)]
    order = sorted(rows, key=lambda i: (tuple(examples[i].branches[0].ids), i))
    costs = _Costs([examples[row] for row in order], price, share=share)
    found = min(
        (_levelled(costs, start) for start in (_runs(costs, parts), _dealt(costs, parts))),
        key=lambda sets: max(map(costs.of, sets)),
    )
    return [[order[place] for place in places] for places in found]


class _Costs:
    """What any set of places in token order costs, together."""

    def __init__(self, examples: Sequence[Rendered], price: Price, *, share: bool) -> None:
        self.price = price
        self.alone = [price.of(example, share=share) for example in examples]
        self.common = [
            common_prefix(one.branches[0].ids, other.prompt_ids) if share else 0
            for one, other in itertools.pairwise(examples)
        ]

    def of(self, places: Sequence[int]) -> int:
        """Of ascending places: each by itself, less what it shares with the one before."""
        shared = sum(self.between(a, b) for a, b in itertools.pairwise(places))
        return sum(self.alone[place] for place in places) - shared

    def between(self, place: int, other: int) -> int:
        """What `other` need not compute behind `place`."""
        return self.price.shared(min(self.common[place:other]))


def _runs(costs: _Costs, parts: int) -> list[list[int]]:
    """Runs of neighbours, the dearest as cheap as can be: all sharing but at the seams is kept."""
    low, high = max(costs.alone, default=0), sum(costs.alone)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(costs, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    runs = _filled(costs, low)
    return [*runs, *([] for _ in range(parts - len(runs)))]


def _filled(costs: _Costs, limit: int) -> list[list[int]]:
    """Runs that each take as many as fit below `limit`."""
    runs: list[list[int]] = []
    used = limit
    for place, alone in enumerate(costs.alone):
        fresh = alone - costs.between(place - 1, place) if place else alone
        if runs and used + fresh <= limit:
            runs[-1].append(place)
            used += fresh
        else:
            runs.append([place])
            used = alone
    return runs


def _dealt(costs: _Costs, parts: int) -> list[list[int]]:
    """The dearest first, each to the part that is cheapest with it."""
    sets: list[list[int]] = [[] for _ in range(parts)]
    for place in sorted(range(len(costs.alone)), key=lambda i: (-costs.alone[i], i)):
        grown = [_with(places, place) for places in sets]
        best = min(range(parts), key=lambda part: (costs.of(grown[part]), part))
        sets[best] = grown[best]
    return sets


def _levelled(costs: _Costs, sets: list[list[int]]) -> list[list[int]]:
    """Rows given away by the dearest part, or exchanged, as long as that makes it cheaper."""
    loads = [costs.of(places) for places in sets]
    for _ in range(4 * len(costs.alone)):
        heavy = max(range(len(sets)), key=lambda part: (loads[part], -part))
        if loads[heavy] * len(loads) <= (1 + _EVEN) * sum(loads):
            break
        light = sorted(range(len(sets)), key=lambda part: (loads[part], part))
        for partner in light[:_PARTNERS]:
            found = None if partner == heavy else _exchange(costs, sets[heavy], sets[partner])
            if found is not None:
                sets[heavy], sets[partner] = found
                loads[heavy], loads[partner] = map(costs.of, found)
                break
        else:
            break
    return sets


def _exchange(
    costs: _Costs, heavy: list[int], light: list[int]
) -> tuple[list[int], list[int]] | None:
    """The two after the best exchange of one row for one or none; None where none helps."""
    before, other = costs.of(heavy), costs.of(light)
    gains = [(before - costs.of(_without(heavy, place)), place) for place in heavy]
    gives = [(0, -1), *((other - costs.of(_without(light, place)), place) for place in light)]
    wanted = (before - other) / 2
    tried = sorted(
        (abs(gain - give - wanted), place, back) for gain, place in gains for give, back in gives
    )
    best, least = None, before
    for _, place, back in tried[:_LOOKED_AT]:
        ours, theirs = _without(heavy, place), _with(light, place)
        if back >= 0:
            ours, theirs = _with(ours, back), _without(theirs, back)
        most = max(costs.of(ours), costs.of(theirs))
        if most < least:
            best, least = (ours, theirs), most
    return best


def _without(places: Iterable[int], place: int) -> list[int]:
    return [one for one in places if one != place]


def _with(places: Iterable[int], place: int) -> list[int]:
    return sorted([*places, place])
