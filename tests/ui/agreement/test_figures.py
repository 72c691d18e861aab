"""The page's facts, against counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ui.agreement.worlds import World

from palate.evaluate.intervals import wilson
from palate.ui.agreement.figures import figures, reading
from palate.ui.agreement.votes import Votes, read_votes


def facts_of(world: World) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """All facts, those of pairs, and those of each annotator by name."""
    facts = figures(read_votes(world.store))
    pairs = next(one for one in facts["questions"] if one["question"] == "pairs")
    return facts, pairs, {one["name"]: one for one in facts["annotators"]}


def test_no_votes_have_no_figures() -> None:
    assert figures(Votes()) == {
        "counts": {"pairs": 0, "singles": 0, "settled": 0, "unnamed": 0},
        "annotators": [],
        "annotators_in_all": 0,
        "questions": [],
    }


def test_what_cannot_be_computed_says_why(world: World) -> None:
    world.say("0 ann A", "1 bob B", "2 judge/x A")
    _, pairs, who = facts_of(world)
    assert (pairs["voted"], pairs["shared"], pairs["kappas"]) == (2, 0, [])
    assert pairs["raw"]["why"] == "no item has two votes yet"
    assert [a["why"] for a in pairs["alphas"]] == ["no item has two votes yet"] * 2
    assert pairs["judges"][0]["kappa"]["why"] == (
        "no item has both its word and a majority of people"
    )
    position = who["ann"]["position"]
    assert position["why"] == "of no vote for one answer is the place recorded"
    assert position["p"] is position["value"] is None
    assert who["ann"]["again"]["why"] == "no item was shown twice"


def test_figures_of_two_people(world: World) -> None:
    world.say(
        *("0 ann A", "1 ann B", "2 ann A", "3 ann A"),
        *("0 bob A", "1 bob B", "2 bob B", "3 bob A", "4 bob A"),
        *("0 judge/x A", "1 judge/x B", "2 judge/x A", "3 judge/x B"),
    )
    facts, pairs, _ = facts_of(world)
    assert facts["counts"] == {"pairs": 13, "singles": 1, "settled": 0, "unnamed": 0}
    assert (pairs["voted"], pairs["shared"], pairs["people"]) == (5, 4, 2)
    # A B A A and A B B A: 3 of 4 the same.
    raw = pairs["raw"]
    assert (raw["value"], raw["low"], raw["high"]) == (0.75, *wilson(3, 4))
    # n_A = 5, n_B = 3, o_AB = 1: α = 1 − 7·1/15.
    nominal = pairs["alphas"][0]
    assert nominal["value"] == pytest.approx(1 - 7 / 15)
    assert nominal["reads"].endswith("53 % is not there.")
    # κ: p_e = (3·2 + 1·2)/16 = 1/2.
    (kappa,) = pairs["kappas"]
    assert (kappa["one"], kappa["other"], kappa["count"]) == ("ann", "bob", 4)
    assert kappa["kappa"]["value"] == pytest.approx(0.5)
    # The majority (item 2 is divided): A B A; the judge A B B.
    (judge,) = pairs["judges"]
    assert (judge["judge"], judge["count"]) == ("judge/x", 3)
    assert judge["raw"]["value"] == pytest.approx(2 / 3)


def test_a_kappa_without_error_has_no_interval(world: World) -> None:
    world.say("0 ann A", "0 bob A", "1 ann B", "1 bob B", "2 ann A", "2 eve B")
    _, pairs, _ = facts_of(world)
    kappas = {(k["one"], k["other"]): k["kappa"] for k in pairs["kappas"]}
    assert kappas["ann", "bob"]["value"] == 1
    assert kappas["ann", "bob"]["low"] is kappas["ann", "eve"]["low"] is None
    assert kappas["ann", "bob"]["why"] == "no interval: too few, or too alike"


def test_ordinal_alpha_is_over_the_steps(world: World) -> None:
    # Steps −2 … 2: (1, 1), (1, ½), (−1, −1); no strength and both bad are left out.
    world.say(
        *("0 ann A ab 1.0", "0 bob A ab 1.0", "1 ann A ab 1.0", "1 bob A ab 0.75"),
        *("2 ann B ab 1.0", "2 bob B ab 1.0", "3 ann A ab", "3 bob bad ab"),
    )
    _, pairs, _ = facts_of(world)
    ordinal = pairs["alphas"][1]
    # n = (2, 1, 3) of −1, ½, 1; o_½1 = 1. δ²_½1 = (4 − 2)² = 4, δ²_−1½ = (3 − 1.5)² = 2.25,
    # δ²_−11 = (6 − 2.5)² = 12.25: 1 − 5·4/(1·3·4 + 2·1·2.25 + 2·3·12.25) = 1 − 20/90.
    assert (ordinal["count"], ordinal["value"]) == (3, pytest.approx(1 - 20 / 90))


def test_annotators_with_their_bias_and_their_consistency(world: World) -> None:
    world.say(
        *("0 ann A ab", "1 ann A ab", "2 ann B ba", "3 ann A ba", "4 ann = ab", "5 ann bad ab"),
        *("0 ann A ba", "1 ann B ba"),  # again: the same with swapped sides, another
        *("0 bob A", "0 judge/x A"),
    )
    _, _, who = facts_of(world)
    assert list(who) == ["ann", "bob", "customer", "judge/x"]
    ann = who["ann"]
    assert (ann["votes"], ann["ties"], ann["both_bad"]) == (8, 1, 1)
    # For the left one: A of ab twice, B of ba twice; against it: A of ba twice.
    assert (ann["position"]["value"], ann["position"]["count"]) == (pytest.approx(4 / 6), 6)
    # P(X ≤ 2) of six is (1 + 6 + 15)/64.
    assert ann["position"]["p"] == pytest.approx(44 / 64)
    assert (ann["again"]["value"], ann["again"]["count"]) == (0.5, 2)
    assert ann["again"]["swapped"]["value"] == 0.5


def test_alpha_in_words() -> None:
    assert reading(None) == ""
    assert reading(0.62).endswith("62 % is not there.")
    assert reading(0.001) == "People disagree as much as if votes were dealt out at random."
    assert reading(-0.2).startswith("People disagree 20 % more than")
