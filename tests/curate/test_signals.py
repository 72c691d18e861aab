"""What was said about answers, joined and settled; each expected value follows from the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from palate.curate.signals import Judged, join, own_signals, settle
from palate.ingest import IngestError
from palate.records import (
    ADJUDICATED,
    Arrival,
    Completion,
    Example,
    Message,
    Provenance,
    Reject,
    Signal,
    Verdict,
)


def answered(*texts: str, **more: Any) -> Example:
    completions = tuple(Completion((Message("assistant", text),)) for text in texts)
    where = Provenance("log", more.pop("line", 1))
    return Example((Message("user", "Q?"),), completions, provenance=(where,), **more)


def said(kind: Any, time: str = "", **more: Any) -> Signal:
    where = Provenance("feedback", more.pop("line", 1), time or None)
    return Signal(more.pop("about", ("o:1",)), kind, provenance=(where,), **more)


def settled(example: Example, *signals: Signal, score: str | None = None) -> list[Any]:
    """Examples, and after them the reasons of rejects."""
    rejects: list[Reject] = []
    found = settle([Judged(example, signals)], rejects.append, score)
    return [*found, *(reject.reason for reject in rejects)]


def labels(*thumbs: Signal, own: bool | None = None) -> list[Any]:
    example = answered("a")
    if own is not None:
        example = replace(example, completions=(replace(example.completions[0], label=own),))
    found = settled(example, *thumbs)
    return [one.completions[0].label if isinstance(one, Example) else one for one in found]


def test_without_signals_an_example_stays_as_it_is() -> None:
    example = answered("a", "b", verdict=Verdict(1, 0, "vote"))
    assert settled(example) == [example]


def test_thumbs_are_counted() -> None:
    up, down = said("thumb", label=True), said("thumb", label=False)
    assert labels(up) == [True]
    assert labels(down) == [False]
    assert labels(up, down) == [None, "contradictory"]
    assert labels(up, down, down) == [False]
    assert labels(up, own=False) == [None, "contradictory"], "its own row is a voice too"
    assert labels(down, own=False) == [False]


def test_the_last_word_of_a_person_counts() -> None:
    assert labels(said("thumb", label=True, by="ann"), said("thumb", label=False, by="ann")) == [
        False
    ]
    both = [said("thumb", label=True, by="ann"), said("thumb", label=False, by="bob")]
    assert labels(*both) == [None, "contradictory"]
    assert labels(*both, said("thumb", label=True, by="bob")) == [True]


def test_a_persons_words_on_two_answers_are_two() -> None:
    first = said("thumb", label=True, by="ann", choice=0)
    second = said("thumb", label=False, by="ann", choice=1)
    (found,) = settled(answered("a", "b"), first, second)
    assert [c.label for c in found.completions] == [True, False]


def test_scores_are_the_mean_of_one_name() -> None:
    (found,) = settled(
        answered("a", "b"),
        said("score", score=1.0, name="help"),
        said("score", score=0.5, name="help"),
        said("score", score=0.25, name="help", choice=1),
    )
    assert [c.score for c in found.completions] == [0.75, 0.25]


def test_scores_of_several_names_need_a_choice() -> None:
    signals = (said("score", score=1.0, name="help"), said("score", score=9.0, name="toxic"))
    with pytest.raises(IngestError, match=r"\(help 1, toxic 1\).*data.score=NAME"):
        settled(answered("a"), *signals)
    (found,) = settled(answered("a"), *signals, score="help")
    assert found.completions[0].score == 1.0
    with pytest.raises(IngestError, match="no score is called 'hlp'"):
        settled(answered("a"), *signals, score="hlp")


def test_an_edit_is_a_pair_over_the_original() -> None:
    edit = said("edit", edit=(Message("assistant", "A."),), by="ann", line=7)
    (pair,) = settled(answered("a", "b", tags={"t": "1"}), replace(edit, choice=1))
    assert pair.verdict == Verdict(0, 1, "edit")
    assert [c.text for c in pair.completions] == ["A.", "b"]
    assert (pair.completions[0].source, pair.tags) == ("ann", {"t": "1"})
    assert [(p.source, p.line) for p in pair.provenance] == [("log", 1), ("feedback", 7)]


def test_an_edit_that_changes_nothing_is_no_pair() -> None:
    (found,) = settled(answered("a"), said("edit", edit=(Message("assistant", " a "),)))
    assert (found.shape, found.completions[0].text) == ("demonstration", "a")


def test_an_edit_and_a_thumb_on_the_same_answer() -> None:
    edit = said("edit", edit=(Message("assistant", "A."),))
    pair, rest = settled(answered("a"), edit, said("thumb", label=False))
    assert pair.shape == "pair"
    assert all(c.label is None for c in (pair.chosen,))
    assert rest.completions[0].label is False


def test_votes_are_counted_for_each_two_answers() -> None:
    a_over_b, b_over_a = said("vote", choice=0, over=1), said("vote", choice=1, over=0)
    example = answered("a", "b", "c")
    assert [v.verdict for v in settled(example, a_over_b)] == [Verdict(0, 1, "vote")]
    assert [v.verdict for v in settled(example, a_over_b, b_over_a, b_over_a)] == [
        Verdict(1, 0, "vote")
    ]
    assert settled(example, a_over_b, b_over_a)[-1] == "contradictory"
    b_over_c = said("vote", choice=1, over=2, strength=0.5)
    found = settled(example, a_over_b, b_over_c)
    assert [v.verdict for v in found] == [Verdict(0, 1, "vote"), Verdict(1, 2, "vote", 0.5)]


def test_a_vote_that_both_are_bad_is_never_a_pair() -> None:
    (found,) = settled(answered("a", "b"), said("vote", choice=None))
    assert found.verdict is None
    assert [c.label for c in found.completions] == [False, False]


def test_both_bad_is_about_the_answers_that_were_shown() -> None:
    bad = said("vote", "1", choice=None, by="ann", shown=(2, 0))
    (found,) = settled(answered("a", "b", "c"), bad)
    assert [c.label for c in found.completions] == [False, None, False]
    # Another word on these two takes its place, one on others does not.
    better = said("vote", "2", choice=2, over=0, by="ann", shown=(0, 2))
    (pair,) = settled(answered("a", "b", "c"), bad, better)
    assert (pair.verdict, [c.label for c in pair.completions]) == (
        Verdict(2, 0, "vote"),
        [None, None, None],
    )
    elsewhere = replace(better, choice=2, over=1, shown=(1, 2))
    made, labelled = settled(answered("a", "b", "c"), bad, elsewhere)
    assert made.verdict == Verdict(2, 1, "vote")
    assert [c.label for c in labelled.completions] == [False, None, False]


def test_the_verdict_of_the_row_is_a_vote_too() -> None:
    example = answered("a", "b", verdict=Verdict(0, 1, "arena"))
    (same,) = settled(example, said("vote", choice=0, over=1))
    assert same.verdict == Verdict(0, 1, "arena")
    assert settled(example, said("vote", choice=1, over=0))[-1] == "contradictory"


def test_a_signal_about_an_answer_that_is_not_there_is_said() -> None:
    found = settled(answered("a"), said("thumb", label=True, choice=1))
    assert found[0].completions[0].label is None
    assert found[1:] == ["no-such-answer"]


def test_own_signals_say_what_the_row_said() -> None:
    first = Completion((Message("assistant", "a"),), score=0.5, label=True)
    example = replace(answered("a", "b"), completions=(first, answered("b").completions[0]))
    example = replace(example, verdict=Verdict(1, 0, "vote", 0.5))
    kinds = [(s.kind, s.choice, s.label, s.score, s.over, s.name) for s in own_signals(example)]
    assert kinds == [
        ("thumb", 0, True, None, None, None),
        ("score", 0, None, 0.5, None, None),
        ("vote", 1, None, None, 0, "vote"),
    ]


def test_signals_find_their_examples_by_any_id_and_wherever_they_stand() -> None:
    first, second = answered("a", line=1), answered("b", line=2)
    rejects: list[Reject] = []
    late = said("thumb", "2026-01-02", label=False, about=("x:9", "langfuse:t2"))
    early = said("thumb", "2026-01-01", label=True, about=("o:2",))
    lost = said("edit", about=("x:9",), line=5)
    arrivals = [
        Arrival(late),
        Arrival(first, ("o:1",)),
        Arrival(second, ("o:2", "langfuse:t2")),
        Arrival(answered("c", line=3), ("o:2",)),
        Arrival(early),
        Arrival(lost),
    ]
    found = join(arrivals, rejects.append)
    assert [one.example.completions[0].text for one in found] == ["a", "b", "c"]
    assert [one.signals for one in found] == [(), (early, late), ()], "in the order of time"
    assert [(r.source, r.line, r.reason) for r in rejects] == [("feedback", 5, "no-such-answer")]


def test_a_score_of_a_trace_is_that_of_its_one_answer() -> None:
    rejects: list[Reject] = []
    one, two, three = (
        answered(t, line=n, tags={"trace_id": i}) for n, (t, i) in enumerate(("ax", "by", "cy"))
    )
    about_x = said("thumb", label=False, about=("langfuse:trace/x",))
    about_y = said("thumb", label=False, about=("langfuse:trace/y",), line=7)
    found = join(
        [Arrival(about_x), *map(Arrival, (one, two, three)), Arrival(about_y)], rejects.append
    )
    assert [found_one.signals for found_one in found] == [(about_x,), (), ()]
    assert [(r.line, r.reason) for r in rejects] == [(7, "no-such-answer")]
    assert "langfuse:trace/y, of which there are 2 answers" in rejects[0].detail


def test_a_file_that_ranks_and_scores_gives_its_pair_alone() -> None:
    signals = (
        said("vote", choice=0, over=1, name="file"),
        said("score", score=0.1),
        said("score", score=0.9, choice=1),
    )
    example = answered("a", "b")
    plain, ranked = settled(example, *signals[1:]), settled(example, *signals)
    assert [c.score for c in plain[0].completions] == [0.1, 0.9]
    assert [one.verdict for one in ranked if one.verdict] == [Verdict(0, 1, "file")]


def test_scores_without_a_name_go_with_the_one_that_has_one() -> None:
    signals = (said("score", score=1.0), said("score", score=0.5, name="help"))
    for chosen in (None, "help"):
        (found,) = settled(answered("a"), *signals, score=chosen)
        assert found.completions[0].score == 0.75


def test_the_last_vote_on_two_answers_counts_whether_or_not_it_prefers_one() -> None:
    bad = said("vote", "1", choice=None, by="ann")
    first = said("vote", "2", choice=0, over=1, by="ann")
    (found,) = settled(answered("a", "b"), bad, first)
    assert found.verdict == Verdict(0, 1, "vote")
    assert [c.label for c in found.completions] == [None, None]
    (found,) = settled(answered("a", "b"), replace(first), replace(bad))
    assert found.verdict is None
    assert [c.label for c in found.completions] == [False, False]


def test_a_judges_vote_counts_only_where_nobody_else_ranks_the_two() -> None:
    example = answered("a", "b", "c")
    judge = {"by": "judge/m", "name": "judge/m"}
    mine = said("vote", choice=1, over=0, **judge)
    (alone,) = settled(example, mine)
    assert alone.verdict == Verdict(1, 0, "judge/m")
    (overruled,) = settled(example, mine, said("vote", choice=0, over=1))
    assert overruled.verdict == Verdict(0, 1, "vote")
    (agreed,) = settled(example, mine, said("vote", choice=1, over=0))
    assert agreed.verdict == Verdict(1, 0, "vote")
    both = settled(example, said("vote", choice=2, over=1, **judge), said("vote", choice=0, over=1))
    assert [one.verdict for one in both] == [Verdict(2, 1, "judge/m"), Verdict(0, 1, "vote")]
    ranked = replace(example, verdict=Verdict(0, 1, "file"))
    assert [one.verdict for one in settled(ranked, mine)] == [Verdict(0, 1, "file")]


def test_two_judges_who_disagree_make_no_pair() -> None:
    votes = [said("vote", choice=1 - i, over=i, by=f"judge/{i}", name=f"judge/{i}") for i in (0, 1)]
    example, reason = settled(answered("a", "b"), *votes)
    assert (example.verdict, reason) == (None, "contradictory")


def test_a_tie_takes_back_what_the_same_judge_said_before() -> None:
    example = answered("a", "b")
    vote = said("vote", "2026-01-01", choice=1, over=0, by="judge/m")
    tie = said("tie", "2026-01-02", choice=0, over=1, by="judge/m")
    (taken,) = settled(example, vote, tie)
    assert taken.verdict is None
    (back,) = settled(example, tie, replace(vote, provenance=(Provenance("f", 1, "2026-01-03"),)))
    assert back.verdict is not None


def test_what_was_settled_counts_instead_of_the_votes() -> None:
    votes = [
        said("vote", choice=0, over=1, by="ann"),
        said("vote", choice=0, over=1, by="bob"),
        said("vote", choice=1, over=0, by="eve"),
    ]
    (before,) = settled(answered("a", "b"), *votes)
    assert before.verdict == Verdict(0, 1, "vote")
    last = said("vote", choice=1, over=0, by="ann", name=ADJUDICATED)
    (found,) = settled(answered("a", "b"), *votes, last)
    assert found.verdict == Verdict(1, 0, ADJUDICATED)
    # Two against one, and the file's own verdict, weigh nothing then; a tie makes no pair.
    tie = said("tie", choice=0, over=1, by="ann", name=ADJUDICATED)
    (plain,) = settled(answered("a", "b", verdict=Verdict(0, 1, "arena")), *votes, tie)
    assert plain.verdict is None
    # Votes on other answers, and thumbs, stay.
    other = said("vote", choice=2, over=0, by="ann")
    up = said("thumb", label=True, by="ann")
    made = settled(answered("a", "b", "c"), *votes, other, up, last)
    assert {one.verdict for one in made} >= {Verdict(1, 0, ADJUDICATED), Verdict(2, 0, "vote")}
    assert made[0].completions[0].label is True


def test_both_bad_settles_the_two() -> None:
    votes = [said("vote", choice=0, over=1, by="ann"), said("vote", choice=1, over=0, by="bob")]
    bad = said("vote", choice=None, by="ann", name=ADJUDICATED)
    (found,) = settled(answered("a", "b"), *votes, bad)
    assert (found.verdict, [c.label for c in found.completions]) == (None, [False, False])


def test_a_thumb_is_settled_by_a_thumb() -> None:
    thumbs = [said("thumb", label=True, by="ann"), said("thumb", label=False, by="bob")]
    assert labels(*thumbs, said("thumb", label=False, by="ann", name=ADJUDICATED)) == [False]
