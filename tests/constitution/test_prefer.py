from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.speakers import Killed, Scripted, killed_after

from palate.cli.constitution import named, write_rows
from palate.constitution.prefer import (
    PreferPlan,
    preferences,
    preferred,
    rubric,
    summarise,
)
from palate.ingest import read_examples
from palate.judge.opinion import Opinion, Question
from palate.records import Completion, Example, Message, Verdict
from palate.speak.speaker import Manner, Reply

OURS = named("default")
PLAN = PreferPlan(manner=Manner(seed=3), group=2)


class Reads:
    """A judge that finds P(first is better) in the first answer: `0.7 …`; `down` is an outage."""

    name = "reads"

    def __init__(self, told: list[str] | None = None, about: str = "") -> None:
        self.told = told if told is not None else []
        self.about = about

    def with_rubric(self, rubric: str) -> Reads:
        return Reads(self.told, rubric)

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        self.told += [self.about] * len(questions)
        return [self._opinion(question.first) for question in questions]

    def _opinion(self, first: str) -> Opinion:
        word = first.split(maxsplit=1)[0]
        return Opinion(None, failure="server") if word == "down" else Opinion(float(word), ("A",))


def example(prompt: str, *answers: str) -> Example:
    completions = tuple(Completion((Message("assistant", text),)) for text in answers)
    return Example((Message("user", prompt),), completions, tags={"topic": "t"})


def rows_of(
    path: Path, *examples: Example, plan: PreferPlan = PLAN, speaker: Scripted | None = None
) -> list[dict[str, object]]:
    judge = Reads()
    return preferences(examples, speaker, judge, OURS, plan, path, judged_by="reads 1")


def test_given_answers_are_compared_and_ties_are_counted(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "log.jsonl",
        example("a", "0.9 yes", "no"),
        example("b", "0.2 yes", "no"),
        example("c", "0.54 yes", "no"),
        example("d", "0.5 yes", "no"),
        example("e", "down", "no"),
        example("f", "one alone"),
        example("g", "0.9 same", "0.9 SAME!"),
        example("h", "0.55 yes", "no", "a third"),
    )
    found = summarise(rows)
    assert found.left_out == {"tie": 2, "judge-failed": 1, "one-answer": 1, "equal-answers": 1}
    assert found.strength == pytest.approx((0.9 + 0.8 + 0.55) / 3)
    write_rows(tmp_path / "out.jsonl", list(preferred(rows, OURS, None, "reads 1")))
    made = list(read_examples(tmp_path / "out.jsonl"))
    assert [e.chosen.text for e in made] == ["0.9 yes", "no", "0.55 yes"]
    assert [e.rejected.text for e in made] == ["no", "0.2 yes", "no"]
    assert [e.verdict.strength for e in made if e.verdict] == [0.9, 0.8, 0.55]
    tags = made[0].tags
    assert tags["constitution"] == f"default@{OURS.hash}"
    assert tags["principles"] in {principle.id for principle in OURS.principles}
    assert (tags["judged_by"], tags["answers_from"], tags["topic"]) == ("reads 1", "file", "t")
    assert "strength" not in tags


def test_one_half_is_a_tie_even_where_all_else_counts(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "log.jsonl",
        example("a", "0.5 yes", "no"),
        example("b", "0.501 yes", "no"),
        plan=PreferPlan(least=0.0),
    )
    assert [row["reason"] for row in rows] == ["tie", None]
    # 3/4 is a quarter from one half, exactly: no tie yet.
    plan = PreferPlan(least=0.25)
    (row,) = rows_of(tmp_path / "other.jsonl", example("a", "0.75 yes", "no"), plan=plan)
    assert row["reason"] is None


def test_several_principles_are_averaged_without_those_that_failed(tmp_path: Path) -> None:
    class Moody(Reads):
        """Says .9 under the first rubric that it meets, .5 under the next, and then nothing."""

        def with_rubric(self, rubric: str) -> Moody:
            return Moody(self.told, rubric)

        def compare(self, questions: Sequence[Question]) -> list[Opinion]:
            self.told.append(self.about)
            said = [Opinion(0.9), Opinion(0.5), Opinion(None, failure="server")]
            return [said[len(self.told) - 1]]

    judge = Moody()
    plan = PreferPlan(average=3)
    (row,) = preferences(
        [example("a", "x", "y")], None, judge, OURS, plan, tmp_path / "l.jsonl", judged_by="m"
    )
    assert row["p"] == pytest.approx(0.7)
    assert len(set(judge.told)) == 3, "three principles, none twice"
    assert set(judge.told) <= {rubric(principle) for principle in OURS.principles}
    (pair,) = preferred([row], OURS, None, "m")
    assert len(pair["metadata"]["principles"].split(", ")) == 2


def test_prompts_without_answers_get_two_of_the_model(tmp_path: Path) -> None:
    count = iter(range(100))
    speaker = Scripted(lambda turns, manner: f"0.{next(count) + 1} words", "model")
    rows = rows_of(
        tmp_path / "log.jsonl", example("a"), example("b", "0.9 x", "y"), speaker=speaker
    )
    assert rows[0]["answers"] == ["0.1 words", "0.2 words"]
    assert rows[1]["answers"] == ["0.9 x", "y"]
    pairs = list(preferred(rows, OURS, "model", "r"))
    assert [pair["metadata"]["answers_from"] for pair in pairs] == ["model", "file"]


def test_samples_that_are_cut_or_empty_are_not_judged(tmp_path: Path) -> None:
    said = iter(
        [
            *(Reply("0.9 a"), Reply("0.1", finished=False)),
            *(Reply(""), Reply("b")),
            *(Reply("c"), Reply("", failure="prompt-too-long")),
        ]
    )
    speaker = Scripted(lambda turns, manner: next(said), "model")
    rows = rows_of(
        tmp_path / "log.jsonl", example("a"), example("b"), example("c"), speaker=speaker
    )
    assert [row["reason"] for row in rows] == ["truncated", "empty", "prompt-too-long"]


@pytest.mark.parametrize("calls", range(3))
def test_after_a_kill_the_log_is_the_same(tmp_path: Path, calls: int) -> None:
    prompts = [example(f"Question {n}") for n in range(5)]

    def speaker() -> Scripted:
        return Scripted(lambda turns, manner: f"0.{manner.seed % 9 + 1} {len(turns)}", "m")

    rows_of(tmp_path / "whole.jsonl", *prompts, speaker=speaker())
    with pytest.raises(Killed):
        rows_of(tmp_path / "l.jsonl", *prompts, speaker=killed_after(speaker(), calls))
    rows_of(tmp_path / "l.jsonl", *prompts, speaker=speaker())
    assert (tmp_path / "l.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_pairs_verdict_of_the_file_is_not_taken_over(tmp_path: Path) -> None:
    """The answers are compared anew: who preferred which before does not matter."""
    given = example("a", "0.1 preferred before", "other")
    (row,) = rows_of(tmp_path / "l.jsonl", Example(given.prompt, given.completions, Verdict(0, 1)))
    (pair,) = preferred([row], OURS, None, "r")
    assert pair["chosen"][0]["content"] == "other"
