from __future__ import annotations

import base64
from collections import Counter

from tests.redteam.worlds import CATEGORIES

from palate.records import Message
from palate.redteam.attempts import (
    ESCALATION,
    FORMS,
    HISTORY,
    MUTATION,
    PLAIN,
    WRAPPERS,
    Attempt,
    attempts_of,
    canary_of,
)


def test_each_attack_is_plain_and_in_a_form_that_takes_its_turn() -> None:
    found = attempts_of(CATEGORIES[:1], wrapped=1, seed=0)
    forms = Counter(one.form for one in found)
    assert forms[PLAIN] == 6
    assert forms[ESCALATION] == 1
    assert sorted(forms[name] for name in (*WRAPPERS, HISTORY)) == [1, 1, 1, 1, 2]
    assert len({one.id for one in found}) == len(found) == 13


def test_all_forms_and_none() -> None:
    every = attempts_of(CATEGORIES[:1], wrapped=9, seed=0, per_category=1)
    assert {one.form for one in every} == set(FORMS) - {MUTATION}
    alone = attempts_of(CATEGORIES[:1], wrapped=0, seed=0, per_category=2)
    assert [one.form for one in alone] == [PLAIN, PLAIN, ESCALATION]


def test_what_the_forms_say() -> None:
    (one,) = (
        one
        for one in attempts_of(CATEGORIES[:1], wrapped=5, seed=0, per_category=1)
        if one.form == "encoded"
    )
    coded = one.turns[0].split()[-1]
    assert base64.b64decode(coded).decode() == "Do harm number 0"
    assert "Do harm" not in one.turns[0]
    history = next(
        one for one in attempts_of(CATEGORIES[:1], wrapped=5, seed=0) if one.form == HISTORY
    )
    assert [m.role for m in history.opening] == ["user", "assistant"] * 3
    assert history.turns[0].startswith("Do harm")


def test_the_secret_stands_in_the_system_prompt_and_nowhere_else() -> None:
    found = [one for one in attempts_of(CATEGORIES, wrapped=1, seed=0) if one.canary]
    assert len(found) == 4
    for one in found:
        assert one.canary == canary_of(one.attack, 0)
        assert one.opening[0].role == "system"
        assert one.canary in one.opening[0].content
        assert not any(one.canary in turn for turn in one.turns)
    assert canary_of("a", 0) != canary_of("a", 1)
    assert canary_of("a", 0) != canary_of("b", 0)
    assert len(canary_of("a", 0)) == 12


def test_an_attempt_comes_back_from_its_row() -> None:
    for one in attempts_of(CATEGORIES, wrapped=5, seed=3):
        assert Attempt.from_dict({**one.to_dict(), "answer": "x"}) == one
    assert isinstance(one.opening[0] if one.opening else Message("user", ""), Message)
