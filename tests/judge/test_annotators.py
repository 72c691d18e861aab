"""Who voted what: pairs of annotators, repeated votes, and judges against people."""

from __future__ import annotations

from itertools import combinations

import pytest
from tests.judge import pandalm

from palate.judge.agreement import agreement
from palate.judge.annotators import (
    Repeats,
    Vote,
    against_people,
    by_item,
    majority,
    pairwise,
    people,
    placed,
    repeats,
)


def votes(*said: str) -> list[Vote]:
    """Each as ``item annotator word [shown]``."""
    return [
        Vote(item, by, word, shown=shown[0] if shown else None)
        for item, by, word, *shown in (text.split() for text in said)
    ]


def test_the_first_vote_on_an_item_counts() -> None:
    table = by_item(votes("1 ann first", "1 bob second", "1 ann second", "2 ann tie"))
    assert {item: {by: vote.word for by, vote in v.items()} for item, v in table.items()} == {
        "1": {"ann": "first", "bob": "second"},
        "2": {"ann": "tie"},
    }


def test_people_are_who_is_no_judge() -> None:
    table = by_item(votes("1 ann first", "1 judge/x second", "2 judge/x tie"))
    assert {item: sorted(voices) for item, voices in people(table).items()} == {"1": ["ann"]}


def test_pairs_of_annotators_on_what_both_saw() -> None:
    table = by_item(
        votes(
            *("1 bob first", "1 ann first", "2 ann second", "2 bob second"),
            *("3 ann first", "3 bob second", "4 ann first", "4 bob first"),
            *("5 ann first", "5 eve first", "6 fay tie"),
        )
    )
    found = pairwise(table)
    assert list(found) == [("ann", "bob"), ("ann", "eve")]
    # ann: f s f f; bob: f s s f. p_o = 3/4, p_e = (3·2 + 1·2)/16 = 1/2, κ = 1/2.
    assert (found["ann", "bob"].count, found["ann", "bob"].same) == (4, 3)
    assert found["ann", "bob"].kappa == pytest.approx(0.5)
    assert (found["ann", "eve"].count, found["ann", "eve"].kappa) == (1, None)


def test_kappas_of_a_published_test_set() -> None:
    """PandaLM: the table by items gives what the columns give, and what Cohen's formula gives."""
    units = pandalm.units()
    table = by_item(
        Vote(str(item), f"ann{n}", str(word))
        for item, triple in enumerate(units)
        for n, word in enumerate(triple)
    )
    found = pairwise(table)
    for one, other in combinations(range(3), 2):
        first, second = [u[one] for u in units], [u[other] for u in units]
        pair = found[f"ann{one}", f"ann{other}"]
        assert pair == agreement(list(map(str, first)), list(map(str, second)))
        same = sum(a == b for a, b in zip(first, second, strict=True))
        chance = sum(first.count(word) * second.count(word) for word in (0, 1, 2)) / 999**2
        assert pair.kappa == pytest.approx((same / 999 - chance) / (1 - chance))
    # Of annotators 1 and 2: 879 agreed triples, and those that differ in the third place only:
    # 001 002 110 112 220 221, which are 2 + 2 + 10 + 10 + 2 + 7 = 33.
    assert found["ann0", "ann1"].same == 879 + 33


def test_the_majority_is_what_more_say_than_anything_else() -> None:
    assert majority(["first", "second", "first"]) == "first"
    assert majority(["first"]) == "first"
    assert majority(["first", "second"]) is None
    assert majority(["first", "second", "tie", "second", "first"]) is None
    assert majority([]) is None


def test_judges_against_the_majority_of_people() -> None:
    table = by_item(
        votes(
            *("1 ann first", "1 bob first", "1 eve second", "1 judge/x first"),
            *("2 ann second", "2 judge/x second", "3 bob second", "3 judge/x first"),
            *("4 ann first", "4 judge/x first"),
            *("5 ann first", "5 bob second", "5 judge/x first"),  # divided: no majority
            *("6 judge/x first", "7 judge/y tie"),  # nobody
        )
    )
    found = against_people(table)
    # People f s s f, the judge f s f f: p_o = 3/4, p_e = (2·3 + 2·1)/16 = 1/2, κ = 1/2.
    assert (found["judge/x"].count, found["judge/x"].same) == (4, 3)
    assert found["judge/x"].kappa == pytest.approx(0.5)
    assert (found["judge/y"].count, found["judge/y"].kappa) == (0, None)


def test_repeats_are_the_first_two_votes_on_an_item() -> None:
    given = votes(
        *("1 ann first first", "1 ann first second"),  # the same, swapped
        *("2 ann first first", "2 ann second second"),  # another, swapped: always the left one
        *("3 ann tie first", "3 ann tie first", "3 ann first first"),  # the same, not swapped
        *("4 ann first", "4 ann first first"),  # the place is not known: not said to be swapped
        *("5 ann first first", "5 bob second first"),
    )
    found = repeats(given)
    assert found == {"ann": Repeats(4, 3, 2, 1), "bob": Repeats()}


def test_places_of_what_was_preferred() -> None:
    given = votes(
        *("1 ann first first", "2 ann second second", "3 ann first second"),
        *("4 ann tie first", "5 ann first"),  # no place
        "1 bob second first",
    )
    assert placed(given) == {"ann": (2, 1), "bob": (0, 1)}
    assert placed([Vote("1", "ann", "both bad", shown="first")]) == {"ann": (0, 0)}
