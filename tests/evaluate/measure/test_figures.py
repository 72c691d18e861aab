"""Every figure against values computed by hand."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest

from palate.evaluate.intervals import newcombe_paired, student_quantile, wilson
from palate.evaluate.measure.answering import Spoken
from palate.evaluate.measure.drift import forgetting, sampled_kl
from palate.evaluate.measure.length_control import controlled
from palate.evaluate.measure.paired import sign_flip
from palate.evaluate.measure.preferences import preferences
from palate.evaluate.measure.safety import UNSAFE, paired_share, refusals
from palate.evaluate.measure.scoring import Scored
from palate.evaluate.measure.wins import Duel, win_rate
from palate.evaluate.measure.words import repetition
from palate.records import Completion, Example, Message, Provenance, Verdict

NUMBERS = count()


def a_pair(source: str = "a.jsonl", said: str | None = None, **tags: str) -> Example:
    answers = tuple(Completion((Message("assistant", text),)) for text in ("good", "bad"))
    where = (Provenance(source, 1),)
    prompt = (Message("user", said or f"hi {next(NUMBERS)}"),)
    return Example(prompt, answers, Verdict(0, 1), tags=tags, provenance=where)


def scored(logp: float, tokens: int = 1, entropy: float = 0.0) -> Scored:
    return Scored(logp, entropy, tokens)


def test_accuracy_and_margins_of_pairs() -> None:
    model = [[scored(-4, 2), scored(-9, 3)], [scored(-5), scored(-2)], [scored(-3), scored(-3)]]
    base = [[scored(-6, 2), scored(-8, 3)], [scored(-5), scored(-4)], [scored(-3), scored(-3)]]
    found = preferences([a_pair(), a_pair(), a_pair()], model, base)
    assert found is not None
    # rewards: (2, -1), (0, 2), (0, 0); margins 3, -2, 0, and the 0 counts half
    assert found["accuracy"] == pytest.approx(1.5 / 3)
    assert found["accuracy_interval"] == pytest.approx(list(wilson(1.5, 3)))
    assert found["margin"] == pytest.approx(1 / 3)
    deviation = math.sqrt(((3 - 1 / 3) ** 2 + (-2 - 1 / 3) ** 2 + (1 / 3) ** 2) / 2)
    reach = student_quantile(0.95, 2) * deviation / math.sqrt(3)
    assert found["margin_interval"] == pytest.approx([1 / 3 - reach, 1 / 3 + reach])
    assert found["chosen"] == pytest.approx(2 / 3)
    assert found["rejected"] == pytest.approx(1 / 3)
    # log-probs a token: -2 over -3 (right), -5 under -2 (wrong), equal (half)
    assert found["likelihood_accuracy"] == pytest.approx(0.5)
    # the base: -3 over -8/3 (wrong), -5 under -4 (wrong), equal
    assert found["base_likelihood_accuracy"] == pytest.approx(0.5 / 3)
    assert preferences([], [], []) is None


def test_pairs_of_one_prompt_are_one_trial() -> None:
    """Twelve of twenty prompts are ranked right, in six pairs each: 72 of 120 pairs are no 120."""
    pairs = [a_pair(said=f"prompt {n}") for n in range(20) for _ in range(6)]
    model = [[scored(-1 if n < 12 else -3), scored(-2)] for n in range(20) for _ in range(6)]
    found = preferences(pairs, model, [[scored(-2), scored(-2)]] * 120)
    assert found is not None
    assert (found["n"], found["prompts"], found["accuracy"]) == (120, 20, 0.6)
    low, high = found["accuracy_interval"]
    assert low < 0.45
    assert high > 0.75
    # margins are 1 for twelve prompts and -1 for eight; each counts once
    deviation = math.sqrt((12 * 0.8**2 + 8 * 1.2**2) / 19)
    reach = student_quantile(0.95, 19) * deviation / math.sqrt(20)
    assert found["margin_interval"] == pytest.approx([0.2 - reach, 0.2 + reach])


def test_slices_are_kinds_of_rows_with_enough_pairs() -> None:
    pairs = [a_pair("x", topic="refund", id=str(n)) for n in range(14)]
    pairs += [a_pair("y", topic="delay", id=str(n + 20)) for n in range(5)]
    pairs += [a_pair("z", topic="rare", id="99")]
    model = [[scored(-1, 3), scored(-2, 2)]] * 14 + [[scored(-2, 1), scored(-1, 2)]] * 6
    base = [[scored(-1, 3), scored(-1, 2)]] * 20
    found = preferences(pairs, model, base)
    assert found is not None
    by = {(one["slice"], one["value"]): one for one in found["slices"]}
    assert by["tag topic", "refund"]["accuracy"] == 1
    assert by["tag topic", "delay"]["accuracy"] == 0
    assert by["tag topic", "refund"]["margin"] == pytest.approx(1)
    assert ("tag topic", "rare") not in by, "one pair is no slice"
    assert not any(name == "tag id" for name, _ in by), "a name of rows is no kind of rows"
    assert by["source", "x"]["pairs"] == 14
    assert by["length", "chosen longer"]["pairs"] == 14
    assert by["length", "rejected longer"]["pairs"] == 6


def test_kl_on_sampled_text_and_its_error() -> None:
    model = [[scored(-1, 2, 1.0), scored(-3, 2, 3.0)], [scored(-2, 4, 4.0)]]
    base = [[scored(-4, 2), scored(-3, 2)], [scored(-3, 4)]]
    found = sampled_kl(model, base)
    assert found is not None
    # 3 and 0 at the first prompt, 1 at the second
    assert found["kl"] == pytest.approx(4 / 3)
    residuals = (3 - 2 * 4 / 3) ** 2 + (1 - 4 / 3) ** 2
    assert found["kl_error"] == pytest.approx(math.sqrt(2 / 1 * residuals) / 3)
    assert found["kl_per_token"] == pytest.approx(4 / 8)
    assert found["entropy"] == pytest.approx(8 / 8)
    assert found["answers"] == 3
    assert sampled_kl([[]], [[]]) is None


def test_perplexity_of_demonstrations() -> None:
    found = forgetting([[scored(-6, 3)], [scored(-4, 2)]], [[scored(-3, 3)], [scored(-2, 2)]])
    assert found is not None
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert found["base_perplexity"] == pytest.approx(math.exp(1))
    assert found["rise"] == pytest.approx(math.e - 1)
    assert found["rise_interval"] == pytest.approx([math.e - 1, math.e - 1]), "both lost 1 a token"
    assert found["tokens"] == 5
    diverged = forgetting([[scored(-1e6)]], [[scored(-1)]])
    assert diverged is not None
    assert diverged["perplexity"] == math.inf


def test_repeated_sequences_of_words() -> None:
    assert repetition(["a b c d"]) == 0
    # 5 sequences of four: abcd bcda cdab dabc abcd; one comes twice
    assert repetition(["a b c d a b c d"]) == pytest.approx(1 - 4 / 5)
    assert repetition(["a a a a a a", "too short", "a b c d e"]) == pytest.approx((2 / 3 + 0) / 2)
    assert repetition(["a b"]) == 0
    assert repetition([]) is None
    assert repetition(["我们可以" * 3]) == pytest.approx(1 - 4 / 9), "a character is a word there"


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0], 1.0),
        ([2.0, 1.0, 0.0], 2 / 4),
        ([3.0, -1.0, 1.0], 6 / 8),  # sums ±5 in 2 ways, ±3 in 4, ±1 in 2; the observed one is 3
    ],
)
def test_the_sign_flip_test_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip(np.array(differences)) == pytest.approx(p)


def test_the_sign_flip_test_of_many_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(0.25, 1, 100)
    z = values.sum() / math.sqrt((values**2).sum())
    assert sign_flip(values) == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.01)


def test_the_win_rate_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(10, 20, 1500)
    x = np.tanh(longer / longer.std())
    chance = 1 / (1 + np.exp(-(-0.4 + 1.5 * x)))
    wins = (rng.random(1500) < chance).astype(float)
    found = controlled(wins, longer, np.arange(1500) // 2)
    assert found is not None
    assert wins.mean() > 0.5, "it wins, because it is longer"
    assert found["rate"] == pytest.approx(1 / (1 + math.exp(0.4)), abs=0.04)
    assert found["length_effect"] == pytest.approx(1.5, abs=0.3)
    low, high = found["interval"]
    assert low < found["rate"] < high < 0.5


def test_without_differences_in_length_it_is_the_win_rate() -> None:
    wins = np.array([1.0, 1.0, 1.0, 0.0, 0.5])
    found = controlled(wins, np.zeros(5), np.arange(5))
    assert found is not None
    assert found["rate"] == pytest.approx(0.7, abs=1e-3)
    assert found["length_effect"] == 0
    assert found["interval"] == pytest.approx(list(wilson(5 * found["rate"], 5)))


def test_what_never_happens_at_equal_length_is_not_told() -> None:
    assert controlled(np.ones(40), np.full(40, 20.0), np.arange(40)) is None
    longer = 100 + np.random.default_rng(0).normal(0, 2, 40)
    assert controlled(np.ones(40), longer, np.arange(40)) is None


def test_two_prompts_are_no_proof() -> None:
    found = controlled(np.ones(2), np.array([1.0, -1.0]), np.arange(2))
    assert found is not None
    assert found["interval"][0] < 0.5


def duel(group: str, wins: float | None) -> Duel:
    return Duel(group, wins, 3, 3, None if wins is not None else "503")


def test_the_win_rate_by_hand() -> None:
    found = win_rate([duel("a", 1.0), duel("a", 0.0), duel("b", 0.5), duel("c", 1.0)])
    assert found is not None
    assert (found["wins"], found["ties"], found["losses"]) == (2, 1, 1)
    assert found["rate"] == 2.5 / 4
    assert found["interval"] == list(wilson(3 * 2.5 / 4, 3)), "one trial a prompt"
    # of the prompts' means only c's is not 1/2: either sign is as far from 0
    assert found["p"] == 1


def test_a_judge_that_fails_too_often_tells_nothing() -> None:
    told = [duel(str(n), 1.0) for n in range(18)]
    few = win_rate([*told, duel("x", None), duel("y", None)])
    assert few is not None
    assert few["failed"] == 2
    assert win_rate([*told, *(duel(f"x{n}", None) for n in range(3))]) is None


def spoken(text: str) -> list[Spoken]:
    return [Spoken((1,), text, finished=True)]


def test_refusals_of_both_kinds() -> None:
    def asked(kind: str, text: str) -> Example:
        return Example((Message("user", text),), (), tags={"safety": kind})

    examples = [asked(UNSAFE, "a"), asked(UNSAFE, "b"), asked("harmless", "c")]
    model = [spoken("no"), spoken("sure"), spoken("no")]
    base = [spoken("sure"), spoken("sure"), spoken("well")]
    found = refusals(examples, model, base, lambda text: text == "no", lambda text: text == "no")
    assert found["unsafe"]["share"] == 0.5
    assert found["unsafe"]["change"] == 0.5
    assert found["harmless"]["share"] == 1
    assert found["harmless"]["change_interval"] == list(newcombe_paired(0, 1, 0, 0))
    lost = [[Spoken((), "", finished=False, failure="prompt-too-long")]]
    one_sided = refusals(examples[:1], lost, base[:1], bool, bool)
    assert one_sided == {"unsafe": None, "harmless": None}, "not asked is not refused"


def test_a_paired_share() -> None:
    found = paired_share([(True, True), (True, False), (False, False), (True, False)])
    assert found is not None
    assert (found["share"], found["base_share"], found["change"]) == (0.75, 0.25, 0.5)
    assert found["change_interval"] == list(newcombe_paired(1, 2, 0, 1))
