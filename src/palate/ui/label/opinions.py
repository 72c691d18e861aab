"""What the store's events say of two answers, or of one: agreed, apart, or close."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from palate.ui.label.ranking import Opinion

Said = Mapping[str, Any]
"""An event as JSON; see `records.Signal`."""


def of_pair(events: Sequence[Said], first: int, second: int) -> Opinion:
    """What was said of two answers of an interaction: votes, ties, thumbs and scores."""
    sides, gaps = set[int](), list[float]()
    for said in events:
        if said["kind"] not in {"vote", "tie"} or {said.get("choice"), said.get("over")} != {
            first,
            second,
        }:
            continue
        side = 0 if said["kind"] == "tie" else 1 if said["choice"] == first else -1
        sides.add(side)
        # A page's own words break no tie: whoever comes second is asked in the item's own turn.
        if not said.get("shown"):
            strength = said.get("strength")
            gaps.append(0.0 if side == 0 else 1.0 if strength is None else 2 * strength - 1)
    return _opinion(sides, gaps, _answer(events, first), _answer(events, second))


def of_two(events: Sequence[Said], others: Sequence[Said]) -> Opinion:
    """What was said of the only answers of two interactions: thumbs and scores."""
    return _opinion(set(), [], _answer(events, 0), _answer(others, 0))


def of_one(events: Sequence[Said], place: int) -> Opinion:
    """What was said of one answer: thumbs up and down are a disagreement."""
    thumbs, scores = _answer(events, place)
    return Opinion(judged=bool(thumbs or scores), disagreed=len(thumbs) > 1)


Answer = tuple[set[bool], dict[str, float]]
"""(thumbs, the mean score under each name)"""


def _answer(events: Iterable[Said], place: int) -> Answer:
    thumbs, scores = set[bool](), defaultdict[str, list[float]](list)
    for said in events:
        if said.get("choice") != place:
            continue
        if said["kind"] == "thumb" and said.get("label") is not None:
            thumbs.add(said["label"])
        elif said["kind"] == "score" and said.get("score") is not None:
            scores[said.get("name") or ""].append(said["score"])
    return thumbs, {name: sum(values) / len(values) for name, values in scores.items()}


def _opinion(sides: set[int], gaps: Sequence[float], first: Answer, second: Answer) -> Opinion:
    (ups, scores), (downs, others) = first, second
    if len(ups) == len(downs) == 1 and ups != downs:
        sides = sides | {1 if True in ups else -1}
        gaps = [*gaps, 1.0]
    apart = list(_differences(scores, others))
    return Opinion(
        judged=bool(sides),
        disagreed={-1, 1} <= sides,
        gap=min(gaps) if gaps else None,
        scores=min(apart) if apart else None,
    )


def _differences(one: Mapping[str, float], other: Mapping[str, float]) -> Iterator[float]:
    """Between the scores that both have under one name."""
    return (abs(one[name] - other[name]) for name in one.keys() & other.keys())
