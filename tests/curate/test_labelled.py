"""Thumbs out of pairs, thumbs and what is neither."""

from __future__ import annotations

from collections import Counter

from palate.curate.labelled import make_labelled
from palate.records import Completion, Example, Message, Provenance, Reject, Verdict


def said(text: str, **more: object) -> Completion:
    return Completion((Message("assistant", text),), **more)  # type: ignore[arg-type]


def example(prompt: str, *completions: Completion, verdict: Verdict | None = None) -> Example:
    where = (Provenance("file", 7),)
    return Example((Message("user", prompt),), completions, verdict, provenance=where)


def pair(prompt: str, good: str, bad: str) -> Example:
    """The better answer stands second."""
    return example(prompt, said(bad), said(good), verdict=Verdict(better=1, worse=0))


def made(
    *examples: Example,
) -> tuple[list[tuple[str, str, bool | None]], Counter[str], list[Reject]]:
    """(prompt, answer, thumb) of each, where they come from, and what was left out."""
    rejects: list[Reject] = []
    found, origins = make_labelled(examples, rejects.append)
    for one in found:
        assert one.shape == "labelled"
        assert len(one.completions) == 1
        assert one.verdict is None
        assert one.provenance == (Provenance("file", 7),)
    told = [(o.prompt[0].content, o.completions[0].text, o.completions[0].label) for o in found]
    return told, origins, rejects


def test_a_pair_gives_one_of_each() -> None:
    told, origins, rejects = made(pair("q", "good", "bad"))
    assert told == [("q", "good", True), ("q", "bad", False)]
    assert origins == {"pairs": 2}
    assert not rejects


def test_a_thumb_gives_itself_and_of_several_each() -> None:
    told, origins, _ = made(
        example("a", said("x", label=False)),
        example("b", said("y", label=True), said("z", label=False)),
    )
    assert told == [("a", "x", False), ("b", "y", True), ("b", "z", False)]
    assert origins == {"thumbs": 3}


def test_a_verdict_outweighs_thumbs() -> None:
    both = example("q", said("a", label=True), said("b", label=True), verdict=Verdict(0, 1))
    assert made(both)[0] == [("q", "a", True), ("q", "b", False)]


def test_what_nobody_judged_is_left_out_and_counted() -> None:
    told, origins, rejects = made(
        example("q", said("a")),
        example("q", said("b", score=0.9), said("c", label=True)),
    )
    assert told == [("q", "c", True)]
    assert origins == {"thumbs": 1}
    assert [(r.reason, r.detail, r.line) for r in rejects] == [
        ("no-thumb", "no thumb", 7),
        ("no-thumb", "a score is no thumb", 7),
    ]


def test_an_answer_that_is_good_and_bad_is_left_out_both_times() -> None:
    """B is worse than A and better than C; spaces at the ends make no other answer."""
    told, origins, rejects = made(
        pair("q", "A", "B"), pair("q", " B ", "C"), example("r", said("B", label=True))
    )
    assert told == [("q", "A", True), ("q", "C", False), ("r", "B", True)]
    assert origins == {"pairs": 2, "thumbs": 1}
    assert [r.reason for r in rejects] == ["contradictory"] * 2


def test_the_same_thumb_twice_is_no_contradiction() -> None:
    told, _, rejects = made(pair("q", "A", "B"), pair("q", "A", "C"))
    assert told == [("q", "A", True), ("q", "B", False), ("q", "A", True), ("q", "C", False)]
    assert not rejects
