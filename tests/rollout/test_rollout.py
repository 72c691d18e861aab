"""A rollout's parts: whose turn it is, what a judge's word becomes, what is learned from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from tests.rollout.tasks import example, share

from palate.judge.compare import ByScore
from palate.judge.opinion import Answered, Score
from palate.losses.method import Method
from palate.losses.registry import find
from palate.rollout.judging import Bench
from palate.rollout.learning import lessons, spread
from palate.rollout.prompts import PromptOrder
from palate.rollout.rows import Group, Lesson, Origin, Spoken, pack_lessons, unpack_lessons
from palate.rollout.telling import line_of
from palate.sections.rollout import RolloutConfig
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch


def spoken(
    text: str, reward: float | None = None, origin: Origin = "own", **more: object
) -> Spoken:
    ids = [1, 2, *(ord(c) for c in text), 0]
    branch = Branch(ids, [False, False] + [True] * (len(text) + 1))
    finished = bool(more.pop("finished", True))
    logps = tuple(-0.5 for _ in range(len(text) + 1))
    return Spoken(branch, text, finished, logps, origin, reward, **more)  # type: ignore[arg-type]


def group(*own: Spoken, others: Sequence[Spoken] = (), row: int = 0) -> Group:
    return Group(row, example(row), 2, list(own), list(others))


def method(name: str) -> Method:
    return find({"name": name}, sampled=True)[0]


# --- whose turn it is ---------------------------------------------------------------------


def test_every_prompt_has_its_turn_once_an_epoch() -> None:
    order = PromptOrder(5, seed=1)
    taken = order.take(0, 20)
    epochs = [taken[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    again = PromptOrder(5, seed=1)
    assert again.take(7, 4) == taken[7:11], "it depends on the place alone"
    assert PromptOrder(5, seed=2).take(0, 20) != taken


# --- rewards ------------------------------------------------------------------------------


class Moody:
    """Scores by letters, and fails on answers that begin with x."""

    name = "moody"

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        return [
            Score(None, failure="no reply") if a.text.startswith("x") else Score(share(a.text))
            for a in answers
        ]

    def close(self) -> None:
        """Nothing to let go of."""


def test_scores_become_rewards_and_failures_stay_failures() -> None:
    one = group(spoken("ab"), spoken("a1"), spoken("x"))
    Bench(Moody(), None, ring=False).judge([one])
    assert [s.reward for s in one.own] == [1.0, 0.5, None]
    assert [s.failure for s in one.own] == [None, None, "no reply"]


def test_an_answer_without_end_may_earn_a_fixed_reward() -> None:
    one = group(spoken("ab", finished=False), spoken("ab"))
    Bench(Moody(), None, ring=False, unfinished_reward=-1.0).judge([one])
    assert [s.reward for s in one.own] == [-1.0, 1.0]
    two = group(spoken("ab", finished=False), spoken("11"))
    Bench(None, ByScore(Moody()), ring=True, unfinished_reward=-1.0).judge([two])
    assert [s.reward for s in two.own] == [-1.0, 0.0], "the other one still lost to it"


def test_a_share_of_wins_counts_games_with_a_verdict() -> None:
    """Of ab, a1, a2 and x: ab beats both, a1 and a2 draw, and x has no game."""
    one = group(spoken("ab"), spoken("a1"), spoken("a2"), spoken("x"))
    Bench(None, ByScore(Moody()), ring=True).judge([one])
    assert [s.reward for s in one.own] == [1.0, 0.25, 0.25, None]
    assert one.own[3].failure is not None


def test_equal_answers_are_a_tie_whoever_judges() -> None:
    one = group(spoken("x"), spoken("x"))
    Bench(None, ByScore(Moody()), ring=True).judge([one])
    assert [s.reward for s in one.own] == [0.5, 0.5]


def test_against_a_mixture_each_plays_the_one_beside_it() -> None:
    one = group(spoken("ab"), spoken("11"), others=[spoken("a1", origin="mixture")] * 2)
    Bench(None, ByScore(Moody()), ring=False).judge([one])
    assert [s.reward for s in one.own] == [1.0, 0.0]


# --- lessons ------------------------------------------------------------------------------

CONFIG = RolloutConfig()


def told(found: list[Lesson]) -> list[list[str]]:
    return [
        ["".join(map(chr, branch.ids[2:-1])) for branch in lesson.rendered.branches]
        for lesson in found
    ]


def test_samples_are_all_judged_answers() -> None:
    one = group(spoken("a", 1.0), spoken("b", 0.0), spoken("c", None))
    found, left = lessons([one], method("grpo"), CONFIG)
    assert told(found) == [["a"], ["b"]]
    assert [lesson.rendered.told["reward"] for lesson in found] == [1.0, 0.0]
    assert found[0].logps == (-0.5, -0.5)
    assert left == Counter({"judge failed": 1})
    alone, left = lessons([group(spoken("a", 1.0), spoken("b", None))], method("grpo"), CONFIG)
    assert (alone, left["too few answers"]) == ([], 1)
    assert len(lessons([group(spoken("a", 1.0))], method("reinforce++"), CONFIG)[0]) == 1


def test_pairs_are_the_best_against_the_worst() -> None:
    one = group(spoken("a", 0.2), spoken("b", 0.9), spoken("c", 0.1))
    tie = group(spoken("a", 0.5), spoken("b", 0.5), row=1)
    found, left = lessons([one, tie], method("online-dpo"), CONFIG)
    assert told(found) == [["b", "c"]]
    assert left["ties"] == 1
    assert found[0].rendered.told["wins_chosen"] == 0.9
    wide = RolloutConfig(min_gap=0.9)
    assert lessons([one], method("online-dpo"), wide)[1]["ties"] == 1
    same = group(spoken("a", 0.2), spoken("a", 0.9))
    assert lessons([same], method("dpo"), CONFIG)[1]["equal answers"] == 1


def test_xpo_pairs_each_answer_with_the_reference_s() -> None:
    others = [spoken("r", 0.5, "reference"), spoken("s", 0.5, "reference")]
    one = group(spoken("a", 0.7), spoken("b", 0.1), others=others)
    found, _ = lessons([one], method("xpo"), CONFIG)
    assert told(found) == [["a", "r"], ["s", "b"]]
    assert [lesson.rendered.told["reference_chosen"] for lesson in found] == [0.0, 1.0]


def test_spin_holds_every_answer_against_the_demonstration() -> None:
    shown = spoken("good", origin="demonstration")
    found, left = lessons(
        [group(spoken("a"), spoken("good"), others=[shown])], method("spin"), CONFIG
    )
    assert told(found) == [["good", "a"]]
    assert left["equal answers"] == 1


def test_the_best_of_n_is_imitated_if_it_passes() -> None:
    one = group(spoken("a", 0.2, passed=False), spoken("b", 0.9, passed=True))
    two = group(spoken("c", 0.9, passed=False), row=1)
    found, _ = lessons([one, two], method("rejection-sampling"), CONFIG)
    assert told(found) == [["b"], ["c"]]
    found, left = lessons([one, two], method("rejection-sampling"), RolloutConfig(passing=True))
    assert (told(found), left["none passed"]) == ([["b"]], 1)


def test_spread() -> None:
    assert spread(group(spoken("a", 0.1), spoken("b", 0.2)))
    assert not spread(group(spoken("a", 0.1), spoken("b", 0.1), spoken("c", None)))


# --- through a checkpoint, and into the metrics ---------------------------------------------


@pytest.mark.parametrize("sides", [1, 2])
def test_lessons_come_back_from_a_checkpoint_as_they_were(sides: int) -> None:
    made, reference = [], []
    for row in range(3):
        answers = [spoken("abcd"[: row + side + 1]) for side in range(sides)]
        count = sum(a.tokens for a in answers)
        columns = {"old": torch.rand(count), "advantage": torch.rand(count, dtype=torch.float64)}
        rendered = Rendered(
            f"id{row}",
            2,
            tuple(a.branch for a in answers),
            "talk",
            columns=columns,
            told={"reward": 0.1 * row},
        )
        made.append(Lesson(row, rendered))
        reference.append(torch.rand(count))
    tensors, words = pack_lessons(made, reference)
    found, again = unpack_lessons(tensors, words)
    assert [lesson.rendered for lesson in found] == [lesson.rendered for lesson in made]
    for one, other in zip(found, made, strict=True):
        assert one.rendered.told == other.rendered.told
        assert one.rendered.columns.keys() == other.rendered.columns.keys()
        for name, values in other.rendered.columns.items():
            assert torch.equal(one.rendered.columns[name], values)
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(again, reference, strict=True))
    assert unpack_lessons(*pack_lessons([], None)) == ([], None)


def test_the_line_of_a_rollout() -> None:
    one = group(spoken("ab", 1.0, passed=True), spoken("c", 0.0, passed=False, finished=False))
    two = group(spoken("d", 0.5), spoken("e", 0.5), row=1)
    silent = group(spoken("f", failure="no reply"), row=2)
    line = line_of(3, [one, two, silent], 4, Counter({"too few answers": 1}), {"kl": 0.25})
    assert (line["rollout"], line["prompts"], line["answers"], line["lessons"]) == (3, 3, 5, 4)
    assert line["reward"] == 0.5
    assert line["reward_std"] == pytest.approx((0.5**2 * 2 / 4) ** 0.5)
    assert line["passed"] == 0.5
    assert line["length"] == pytest.approx((3 + 2 + 2 + 2 + 2) / 5)
    assert (line["ended"], line["failed"], line["flat"]) == (0.8, 1, 0.5)
    assert (line["left_too_few_answers"], line["kl"]) == (1, 0.25)
