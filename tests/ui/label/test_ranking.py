"""The order of items: what a word tells most of first, what repeats another last."""

from __future__ import annotations

import pytest

from palate.store.items import Item, across
from palate.ui.label.ranking import Candidate, Opinion, canonical, ranked, share


def candidate(name: str, prompt: int | None = None, **more: object) -> Candidate:
    known = {"content": hash(name), "like": (hash(name),), "opinion": Opinion()} | more
    item = Item(name, (0, 1))
    return Candidate(canonical(item), item, hash(name) if prompt is None else prompt, **known)  # type: ignore[arg-type]


def names(*candidates: Candidate, shown: tuple[str, ...] = ()) -> str:
    keys = {canonical(Item(name, (0, 1))) for name in shown}
    return "".join(one.item.interaction for one in ranked(candidates, keys))


def by_chance(*of: str) -> str:
    """Names in the order in which equals stand."""
    return "".join(sorted(of, key=lambda name: share("rank", canonical(Item(name, (0, 1))))))


def test_disagreement_then_small_gaps_then_the_unjudged_then_the_clear() -> None:
    clear = candidate("a", opinion=Opinion(judged=True, gap=1.0))
    unjudged = candidate("b")
    unsure = candidate("c", opinion=Opinion(judged=True, gap=0.4))
    even = candidate("d", opinion=Opinion(judged=True, gap=0.0))
    apart = candidate("e", opinion=Opinion(judged=True, disagreed=True, gap=1.0))
    assert names(clear, unjudged, unsure, even, apart) == "edcba"


def test_small_gaps_of_scores_are_the_lower_half() -> None:
    # Of 1, 2, 3, 10 the median is 2.5: 1 and 2 are small, 3 and 10 are clear.
    gaps = {"a": 10.0, "b": 3.0, "c": 2.0, "d": 1.0}
    scored = [candidate(name, opinion=Opinion(scores=gap)) for name, gap in gaps.items()]
    order = names(*scored, candidate("u"))
    assert order[:3] == "dcu"
    assert set(order[3:]) == {"a", "b"}
    # 0.4 of a vote's gap lies between: 1 is 0.5 · 1/2.5 = 0.2, and 2 is 0.4, which ties.
    vote = candidate("v", opinion=Opinion(judged=True, gap=0.3))
    assert names(*scored, vote)[:3] == "dvc"


def test_equals_stand_in_an_order_that_no_file_gives() -> None:
    many = [candidate(name) for name in "abcdefgh"]
    assert names(*many) == names(*reversed(many)) == by_chance(*"abcdefgh") != "abcdefgh"


def test_the_second_item_of_a_prompt_waits_for_the_others_first() -> None:
    same = [candidate(name, prompt=7, like=()) for name in "abc"]
    others = [candidate("x"), candidate("y")]
    order = names(*same, *others)
    first = by_chance("a", "b", "c")
    assert set(order[:3]) == {first[0], "x", "y"}
    assert order[3:] == first[1:]


def test_what_repeats_another_comes_last() -> None:
    apart = Opinion(judged=True, disagreed=True)
    again = candidate("a", content=1, opinion=apart)
    once = candidate("b", content=1, opinion=apart)
    first = by_chance("a", "b")
    assert names(again, once, candidate("x"), candidate("y"))[0] == first[0]
    assert names(again, once, candidate("x"), candidate("y"))[-1] == first[1]
    # Nearly the same prompt: one mark in common is enough, unless it is the same prompt.
    near = [candidate("c", like=(1, 2)), candidate("d", like=(2, 3)), candidate("x")]
    assert names(*near)[-1] == by_chance("c", "d")[1]
    alike = [candidate("c", prompt=5, like=(1, 2)), candidate("d", prompt=5, like=(1, 2))]
    assert set(names(*alike, candidate("x"))[:2]) != {"c", "d"}
    assert len(names(*alike, candidate("x"))) == 3


def test_what_repeats_what_was_shown_comes_last_too() -> None:
    shown, like_it = candidate("s", like=(1,)), candidate("n", like=(1,))
    order = names(shown, like_it, candidate("x"), candidate("y"), shown=("s",))
    assert order[-1] == "n"


def test_a_key_stays_when_an_interaction_is_made_of_two() -> None:
    one, other = "a" * 32, "b" * 32
    item = across(other, one)
    assert canonical(item) == f"{item.stands}.0.1"
    assert canonical(Item(item.stands, (1, 0))) == canonical(item)


def test_shares_are_even() -> None:
    drawn = [share("x", str(n)) for n in range(4_000)]
    assert drawn[:2] == [share("x", "0"), share("x", "1")]
    assert min(drawn) >= 0
    assert max(drawn) < 1
    # The mean of 4,000 even draws has the standard error 0.29 / √4000 = 0.0046.
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.02)
