"""Pairs out of thumbs and scores."""

from itertools import permutations

import pytest

from palate.curate.demonstrations import make_demonstrations
from palate.curate.pairing import make_pairs
from palate.records import Completion, Example, Message, Provenance, Verdict


def _answer(text, label=None, score=None):
    return Completion((Message("assistant", text),), label=label, score=score)


def _row(line, prompt, *answers, tags=None, verdict=None):
    return Example(
        (Message("user", prompt),),
        answers,
        verdict=verdict,
        tags=tags or {},
        provenance=(Provenance("log", line),),
    )


def _run(rows, **options):
    rejects = []
    pairs = make_pairs(rows, rejects.append, **options)
    said = [(p.chosen.text, p.rejected.text) for p in pairs]
    return pairs, said, [(r.line, r.reason) for r in rejects]


def test_up_over_down_across_rows():
    rows = [
        _row(1, "q", _answer("bad", False), tags={"shift": "night", "worse": "x"}),
        _row(2, "other", _answer("alone", True)),
        _row(3, "q", _answer("good", True), tags={"shift": "day"}),
    ]
    (pair,), said, rejects = _run(rows)
    assert said == [("good", "bad")]
    assert pair.verdict == Verdict(0, 1, by="thumbs")
    assert pair.tags == {"shift": "day", "worse": "x"}  # the better answer's tags win
    assert [p.line for p in pair.provenance] == [3, 1]
    assert rejects == [(2, "no-contrast")]


def test_thumbs_within_one_row():
    _, said, rejects = _run([_row(1, "q", _answer("a", False), _answer("b", True))])
    assert said == [("b", "a")]
    assert not rejects


def test_each_answer_is_used_once_best_first():
    rows = [
        _row(1, "q", _answer("liked once", True)),
        _row(2, "q", _answer("liked twice", True)),
        _row(3, "q", _answer("liked twice", True)),
        _row(4, "q", _answer("disliked once", False)),
        _row(5, "q", _answer("disliked twice", False)),
        _row(6, "q", _answer("disliked twice", False)),
        _row(7, "q", _answer("also liked once", True)),
    ]
    _, said, rejects = _run(rows)
    # Of the answers liked once, "also …" comes first by its text; "liked once" is left over.
    assert said == [("liked twice", "disliked twice"), ("also liked once", "disliked once")]
    assert rejects == [(1, "unmatched-answer")]


def test_which_answers_meet_does_not_depend_on_the_order():
    rows = [
        _row(1, "q", _answer("a", True)),
        _row(2, "q", _answer("b", True)),
        _row(3, "q", _answer("c", False)),
        _row(4, "q", _answer("d", False)),
    ]
    assert {tuple(_run(list(order))[1]) for order in permutations(rows)} == {
        (("a", "c"), ("b", "d"))
    }


def test_best_against_worst_score():
    rows = [
        _row(1, "q", _answer("mid", score=0.5), _answer("best", score=0.9)),
        _row(2, "q", _answer("worst", score=0.25)),
    ]
    (pair,), said, rejects = _run(rows)
    assert said == [("best", "worst")]
    assert pair.verdict is not None
    assert pair.verdict.by == "score"
    assert pair.verdict.strength == pytest.approx(0.65)  # 0.9 - 0.25
    assert rejects == [(1, "unmatched-answer")]


@pytest.mark.parametrize(("min_gap", "pairs"), [(0.0, 1), (0.5, 1), (0.51, 0)])
def test_the_gap_of_scores(min_gap, pairs):
    rows = [_row(1, "q", _answer("a", score=1.0), _answer("b", score=0.5))]
    _, said, rejects = _run(rows, min_gap=min_gap)
    assert len(said) == pairs
    assert [reason for _, reason in rejects] == ([] if pairs else ["small-gap"])


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([_answer("a", True), _answer("b", True)], "no-contrast"),
        ([_answer("a", False)], "no-contrast"),
        ([_answer("a", score=0.5), _answer("b", score=0.5)], "tie"),
        ([_answer("a", score=0.5)], "no-contrast"),
        ([_answer("a"), _answer("b")], "no-feedback"),
        ([_answer("a", True), _answer(" a ", False)], "contradictory"),
    ],
)
def test_prompts_that_give_no_pair(answers, reason):
    rows = [_row(line, "q", answer) for line, answer in enumerate(answers, 1)]
    _, said, rejects = _run(rows)
    assert not said
    assert rejects == [(1, reason)]


def test_an_answer_rated_both_ways_is_never_paired():
    rows = [
        _row(1, "q", _answer("disputed", True)),
        _row(2, "q", _answer("disputed", False)),
        _row(3, "q", _answer("bad", False)),
    ]
    _, said, rejects = _run(rows)
    assert not said
    assert rejects == [(1, "contradictory")]


def test_a_reject_names_all_its_rows():
    rejects = []
    make_pairs([_row(1, "q", _answer("a", True)), _row(9, "q", _answer("b", True))], rejects.append)
    assert "log:9" in rejects[0].detail


def test_ranked_pairs_pass_through_beside_thumbs():
    ranked = _row(1, "q", _answer("x"), _answer("y"), verdict=Verdict(1, 0))
    rows = [ranked, _row(2, "q", _answer("a", True)), _row(3, "q", _answer("b", False))]
    pairs, said, rejects = _run(rows)
    assert said == [("y", "x"), ("a", "b")]
    assert pairs[0] is ranked
    assert not rejects


def test_different_tools_are_different_prompts():
    up, down = _row(1, "q", _answer("a", True)), _row(2, "q", _answer("b", False))
    with_tools = Example(down.prompt, down.completions, tools=({"name": "find"},))
    _, said, rejects = _run([up, with_tools])
    assert not said
    assert len(rejects) == 2


def test_demonstrations():
    rows = [
        _row(1, "q", _answer("x"), _answer("y"), verdict=Verdict(1, 0)),
        _row(2, "q", _answer("up", True), _answer("down", False), _answer("unrated")),
        _row(3, "q", _answer("shown")),
        _row(4, "q", _answer("one"), _answer("two")),
    ]
    rejects = []
    out, origins = make_demonstrations(rows, rejects.append)
    assert [example.completions[0].text for example in out] == ["y", "up", "shown"]
    assert all(example.verdict is None and len(example.completions) == 1 for example in out)
    assert origins == {
        "chosen answers of pairs": 1,
        "answers with a thumb up": 1,
        "demonstrations": 1,
    }
    assert [(r.line, r.reason) for r in rejects] == [
        (2, "thumbs-down"),
        (2, "no-verdict"),
        (4, "no-verdict"),
    ]


def test_an_answer_of_a_pair_has_the_majoritys_thumb_and_the_mean_score():
    rows = [
        _row(1, "q", _answer("good", False, 1.0)),
        _row(2, "q", _answer("good", True, 2.0)),
        _row(3, "q", _answer("good", True)),
        _row(4, "q", _answer("bad", False)),
    ]
    for order in permutations(rows):
        (pair,), _, _ = _run(order)
        assert (pair.chosen.label, pair.chosen.score) == (True, 1.5)
        assert (pair.rejected.label, pair.rejected.score) == (False, None)


def test_an_answer_that_is_ranked_already_is_not_counted_as_left_out():
    ranked = _row(1, "q", _answer("kept"), _answer("first"), verdict=Verdict(0, 1, "regeneration"))
    rows = [ranked, _row(2, "q", _answer("first")), _row(3, "q", _answer("kept"))]
    pairs, _, rejects = _run(rows)
    assert pairs == [ranked]
    assert rejects == []
    _, _, rejects = _run([*rows, _row(4, "q", _answer("third"))])
    assert rejects == [(4, "no-feedback")]


def test_of_scores_the_middle_is_left_with_its_reason():
    rejects = []
    scored = [_answer(f"{score}", score=float(score)) for score in (1, 2, 3)]
    make_pairs([_row(1, "q", *scored)], rejects.append)
    assert [(r.reason, r.detail) for r in rejects] == [
        ("unmatched-answer", "only the best and the worst score make a pair")
    ]


def test_a_demonstration_has_no_thumb():
    """Else a copy with one would not be a near-duplicate of a copy without."""
    rows = [_row(1, "q", _answer("good", True)), _row(2, "r", _answer("fine"))]
    out, _ = make_demonstrations(rows, lambda _: None)
    assert [(e.shape, e.completions[0].label) for e in out] == [("demonstration", None)] * 2
