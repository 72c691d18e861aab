"""What events say of answers: each expected value follows from the words."""

from __future__ import annotations

from typing import Any

from palate.ui.label.opinions import of_one, of_pair, of_two
from palate.ui.label.ranking import Opinion


def vote(choice: int | None, over: int | None, **more: Any) -> dict[str, Any]:
    return {"kind": "vote", "choice": choice, "over": over} | more


def thumb(choice: int, label: bool) -> dict[str, Any]:
    return {"kind": "thumb", "choice": choice, "label": label}


def score(choice: int, value: float, name: str | None = "r") -> dict[str, Any]:
    return {"kind": "score", "choice": choice, "score": value, "name": name}


def test_votes() -> None:
    assert of_pair([], 0, 1) == Opinion()
    assert of_pair([vote(0, 1)], 0, 1) == Opinion(judged=True, gap=1.0)
    # P(better) = 0.6 lies 2 · 0.6 − 1 = 0.2 from even.
    found = of_pair([vote(1, 0, strength=0.6)], 0, 1)
    assert (found.judged, found.disagreed, round(found.gap or 0, 9)) == (True, False, 0.2)
    assert of_pair([vote(0, 1), vote(1, 0)], 0, 1).disagreed
    assert not of_pair([vote(0, 1), vote(0, 1)], 0, 1).disagreed
    assert of_pair([{"kind": "tie", "choice": 1, "over": 0}], 0, 1) == Opinion(judged=True, gap=0.0)
    assert of_pair([vote(0, 2), vote(2, 1)], 0, 1) == Opinion(), "others' answers"


def test_a_pages_own_vote_can_disagree_but_leaves_the_item_where_it_is() -> None:
    mine = vote(0, 1, shown=[0, 1], strength=1.0)
    assert of_pair([mine], 0, 1) == Opinion(judged=True)
    assert of_pair([mine, vote(1, 0)], 0, 1).disagreed


def test_thumbs_against_each_other_are_a_vote() -> None:
    assert of_pair([thumb(0, True), thumb(1, False)], 0, 1) == Opinion(judged=True, gap=1.0)
    assert of_pair([thumb(0, True), thumb(1, True)], 0, 1) == Opinion()
    apart = of_pair([thumb(0, True), thumb(1, False), vote(1, 0)], 0, 1)
    assert apart.disagreed
    assert of_two([thumb(0, True)], [thumb(0, False)]) == Opinion(judged=True, gap=1.0)


def test_scores_are_compared_under_one_name() -> None:
    # r: mean of 1 and 2 is 1.5, against 1: 0.5. s: 4 against 9: 5. The least counts.
    said = [score(0, 1), score(0, 2), score(1, 1), score(0, 4, "s"), score(1, 9, "s")]
    assert of_pair(said, 0, 1) == Opinion(scores=0.5)
    assert of_pair([score(0, 1), score(1, 1, "s")], 0, 1) == Opinion()
    assert of_two([score(0, 3, None)], [score(0, 1, None)]) == Opinion(scores=2.0)


def test_one_answer() -> None:
    assert of_one([], 0) == Opinion()
    assert of_one([thumb(0, True)], 0) == Opinion(judged=True)
    assert of_one([thumb(0, True), thumb(0, False)], 0) == Opinion(judged=True, disagreed=True)
    assert of_one([score(0, 1)], 0) == Opinion(judged=True)
    assert of_one([thumb(1, True)], 0) == Opinion()
