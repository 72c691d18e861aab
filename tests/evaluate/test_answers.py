"""The comparison of sampled answers, with every expected value worked by hand."""

from __future__ import annotations

import json
import math

import pytest

from palate.evaluate.answers import Answer, Stage, distinct_2, summarise
from palate.evaluate.intervals import newcombe, newcombe_paired, square_and_add, wilson
from palate.evaluate.shares import compare_shares
from palate.judge.rules import RuleResult
from palate.records import Message


def answer(
    group: str,
    stage: Stage,
    passed: bool | None = None,
    text: str = "so it is",
    tokens: int = 10,
    finished: bool = True,
    kl: float | None = None,
    failed: tuple[str, ...] = (),
) -> Answer:
    result = None if passed is None else RuleResult(passed, float(passed), failed)
    return Answer((Message("user", group),), group, text, tokens, finished, stage, result, kl)


def test_an_answer_survives_its_line_of_json() -> None:
    first = answer("a", "after", False, failed=("length",), kl=1.5)
    line = json.dumps(first.to_dict(), allow_nan=False)
    assert Answer.from_dict(json.loads(line)) == first
    bare = answer("a", "before", kl=math.nan)
    line = json.dumps(bare.to_dict(), allow_nan=False)
    assert Answer.from_dict(json.loads(line)) == answer("a", "before", kl=None)


def test_one_answer_per_prompt() -> None:
    # Four prompts: before passes 1, after passes 3; one passes both times, two are won,
    # none is lost, one fails both times.
    before = [answer(g, "before", g == "a", tokens=20, text="w " * 10) for g in "abcd"]
    after = [answer(g, "after", g != "d", tokens=15, text="w " * 8, kl=2.0) for g in "abcd"]
    out = summarise(before, after)
    assert (out.before.share, out.after.share, out.difference) == (0.25, 0.75, 0.5)
    assert out.before.interval == wilson(1, 4)
    assert out.after.interval == wilson(3, 4)
    assert out.difference_interval == newcombe_paired(1, 2, 0, 1)
    assert (out.tokens_change, out.words_change) == pytest.approx((-0.25, -0.2))
    assert (out.kl, out.kl_error) == (2.0, 0.0)
    assert (out.prompts, out.left_out) == (4, 0)


def test_several_answers_per_prompt_count_as_clusters() -> None:
    # Forty prompts of four answers each that all agree: the information is that of forty
    # trials, not of 160. Before 10 of 40 prompts pass, after 30; the ones that pass before
    # pass after too. Bootstrap standard error of the difference: d is 1 in 20 prompts and 0
    # in 20, so sd .5 / sqrt(40) = .079; times t(39) = 2.023 it is .16.
    before = [answer(str(g), "before", g < 10) for g in range(40) for _ in range(4)]
    after = [answer(str(g), "after", g < 30) for g in range(40) for _ in range(4)]
    out = summarise(before, after, seed=1)
    assert out.difference == 0.5
    assert out.difference_interval is not None
    assert out.difference_interval == pytest.approx((0.5 - 0.16, 0.5 + 0.16), abs=0.02)
    assert out.before.interval == pytest.approx((0.25 - 0.14, 0.25 + 0.14), abs=0.02)
    assert out.method is not None
    assert "bootstrap over the 40 prompts" in out.method
    assert out == summarise(before, after, seed=1)
    # As 160 independent answers the interval would be half as wide.
    naive = newcombe(120, 160, 40, 160)
    assert naive[1] - naive[0] < 0.7 * (out.difference_interval[1] - out.difference_interval[0])


@pytest.mark.parametrize("copies", [1, 3])
def test_all_fail_then_all_pass_still_has_an_interval(copies: int) -> None:
    groups = [g for g in "abcdefgh" for _ in range(copies)]
    out = summarise(
        [answer(g, "before", False) for g in groups], [answer(g, "after", True) for g in groups]
    )
    # Eight prompts: the bounds of 0/8 and 8/8 are z^2/(8 + z^2) = .32441 away from the share,
    # so the difference reaches down to 1 - sqrt(2) .32441 = .54121.
    assert out.after.interval == pytest.approx((1 - 0.32441, 1.0), abs=1e-5)
    assert out.difference_interval == pytest.approx((0.54121, 1.0), abs=1e-5)


def test_nothing_changed_is_not_certainty() -> None:
    groups = [str(g) for g in range(20) for _ in range(2)]
    before = [answer(g, "before", int(g) < 10) for g in groups]
    after = [answer(g, "after", int(g) < 10) for g in groups]
    out = summarise(before, after)
    assert out.difference == 0
    low, high = out.difference_interval or (0, 0)
    assert low < -0.1
    assert high > 0.1


def test_a_nearly_unanimous_stage_is_not_resampled() -> None:
    # Before mixed, after all but one of 2 x 16 answers pass: only one prompt has a failure.
    before = [[g % 2 == 0, False] for g in range(16)]
    after = [[True, g != 0] for g in range(16)]
    found = compare_shares(before, after, seed=0)
    assert found.after == pytest.approx(wilson(31 / 32 * 16, 16))
    assert found.difference == pytest.approx(
        square_and_add(31 / 32, found.after, 8 / 32, found.before)
    )
    assert "hybrid" in found.method


def test_failed_parts_are_shares_of_all_answers() -> None:
    before = [
        answer("a", "before", False, failed=("length", "question")),
        answer("b", "before", False, failed=("length",)),
        answer("c", "before", True),
        answer("d", "before", True),
    ]
    out = summarise(before, [answer(g, "after", True) for g in "abcd"])
    assert out.before.failed == {"length": 0.5, "question": 0.25}
    assert out.after.failed == {}
    assert (out.before.score, out.after.score) == (0.5, 1.0)


def test_distinct_2_by_hand() -> None:
    # "a b a b": pairs ab, ba, ab; "b a": ba, and no pair across the answers. 2 of 4.
    answers = [answer("x", "after", text="a b a b"), answer("y", "after", text="b\n a")]
    assert distinct_2(answers) == 0.5
    assert distinct_2([answer("x", "after", text="one"), answer("y", "after", text="")]) is None


def test_distinct_2_takes_equally_many_answers_of_each_prompt() -> None:
    # Twice the answers would repeat the same pairs: with one each it is 1 on both sides.
    before = [answer("a", "before", text="x y z")]
    after = [answer("a", "after", text="x y z"), answer("a", "after", text="x y z")]
    out = summarise(before, after)
    assert (out.before.distinct_2, out.after.distinct_2) == (1.0, 1.0)


def test_without_a_rule_the_rule_fields_are_none() -> None:
    out = summarise(
        [answer("a", "before", finished=False)], [answer("a", "after", kl=math.nan)]
    ).to_dict()
    assert out["before"]["share"] is None
    assert out["difference"] is None
    assert out["method"] is None
    assert out["kl"] is None
    assert (out["before"]["finished"], out["after"]["finished"]) == (0.0, 1.0)
    json.dumps(out, allow_nan=False)


def test_kl_error_is_clustered_by_prompt() -> None:
    # {2, 4} for a, {9} for b: 5 and 8/3, as in test_intervals; before has no part in it.
    after = [answer("a", "after", kl=2), answer("a", "after", kl=4), answer("b", "after", kl=9)]
    before = [answer("a", "before", kl=99), answer("b", "before")]
    out = summarise(before, after)
    assert (out.kl, out.kl_error) == pytest.approx((5.0, 8 / 3))


def test_prompts_of_one_stage_only_are_left_out_and_counted() -> None:
    before = [answer("a", "before", False), answer("b", "before", True)]
    after = [answer("a", "after", True), answer("c", "after", False)]
    out = summarise(before, after)
    assert (out.prompts, out.left_out) == (1, 2)
    assert (out.before.share, out.after.share) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no prompt"):
        summarise(before[:1], after[1:])
    with pytest.raises(ValueError, match="no prompt"):
        summarise([], [])


def test_empty_answers_have_no_change_to_report() -> None:
    out = summarise([answer("a", "before", text="", tokens=0)], [answer("a", "after", tokens=0)])
    assert out.tokens_change is None
    assert out.words_change is None
