from __future__ import annotations

import math

import pytest
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute, gradients, leaf

from palate.losses.batch import LossOutput
from palate.losses.grpo import DrGRPO
from palate.losses.method import Counts
from palate.losses.registry import METHODS
from palate.losses.samples import Samples

LN2 = math.log(2)


def logs(*ratios: float) -> list[float]:
    """log π now, where it was −1 when they were drawn."""
    return [-1 + math.log(ratio) for ratio in ratios]


def unequal(ref: list[float] | None = None) -> Samples:
    """One token of A = 1 with ρ = 1.1, and three of A = −1 with ρ = 1, 0.9 and 0.5."""
    logp = leaf(logs(1.1, 1.0, 0.9, 0.5))
    return samples(logp, [1.0, 3.0], [1.0, -1.0], old=[-1.0] * 4, ref=ref)


def values(output: LossOutput) -> list[float]:
    found: list[float] = output.loss_B.tolist()
    return found


# −1.1; and 1, 0.9, and 0.8 where 0.5 is clipped: 2.7 together


def test_grpo_is_the_mean_over_each_answer_s_tokens() -> None:
    found = compute("grpo", unequal(), beta=0.0)
    assert values(found) == pytest.approx([-1.1, 0.9], abs=1e-12)
    assert found.metrics["clipped"].tolist() == pytest.approx([0.0, 1 / 3])


def test_dapo_counts_every_token_alike() -> None:
    found = compute("dapo", unequal())
    assert values(found) == pytest.approx([-1.1, 2.7], abs=1e-12)
    # the step divides by its 4 tokens
    assert METHODS["dapo"].normalise == "tokens"
    assert sum(values(found)) / 4 == pytest.approx(0.4)
    slope = gradients(compute("dapo", batch := unequal()), batch.logp_N)[0]
    assert slope == pytest.approx([-1.1, 1.0, 0.9, 0.0]), "ρA by token, whatever the length"


def test_dapo_clips_higher_up_than_down() -> None:
    # A = 1: ρ = 1.25 is free and 1.3 held at 1.28; A = −1: 0.75 is held at 0.8
    batch = samples(leaf(logs(1.25, 1.3, 0.75)), [1.0] * 3, [1.0, 1.0, -1.0], old=[-1.0] * 3)
    assert values(compute("dapo", batch)) == pytest.approx([-1.25, -1.28, 0.8], abs=1e-12)
    assert values(compute("grpo", batch, beta=0.0)) == pytest.approx([-1.2, -1.2, 0.8], abs=1e-12)


def test_dr_grpo_divides_every_answer_by_the_same() -> None:
    found = compute("dr-grpo", unequal(), longest=10)
    assert values(found) == pytest.approx([-0.11, 0.27], abs=1e-12)


def test_dr_grpo_s_length_is_the_rollout_s_unless_it_is_said() -> None:
    resolve = METHODS["dr-grpo"].resolve
    assert resolve is not None
    assert resolve(DrGRPO(), Counts(examples=3, longest=64)).longest == 64
    assert resolve(DrGRPO(longest=5), Counts(examples=3, longest=64)).longest == 5


def test_gspo_has_one_ratio_for_an_answer() -> None:
    # s = 1.1, and (1 · 0.9 · 0.5)^⅓ = 0.45^⅓ = 0.766309
    wide_clip = {"clip_low": 0.3, "clip_high": 0.3}
    found = compute("gspo", batch := unequal(), **wide_clip)
    assert values(found) == pytest.approx([-1.1, 0.766309], abs=1e-6)
    # ∂s/∂log π_t = s/L
    slope = gradients(found, batch.logp_N)[0]
    assert slope == pytest.approx([-1.1, *[0.766309 / 3] * 3], abs=1e-6)


def test_gspo_holds_a_whole_answer() -> None:
    # at ε = 3e-4 down and 4e-4 up both are beyond
    found = compute("gspo", batch := unequal())
    assert values(found) == pytest.approx([-1.0004, 0.9997], abs=1e-12)
    assert gradients(found, batch.logp_N)[0] == [0.0] * 4
    assert found.metrics["clipped"].tolist() == [1.0, 1.0]


def test_the_tie_is_k3_of_each_token() -> None:
    # d = ln 2 at the first answer and at one of the second's three tokens: k3 = 1 − ln 2
    logp = logs(1.1, 1.0, 0.9, 0.5)
    ref = [logp[0] + LN2, logp[1] + LN2, logp[2], logp[3]]
    k3 = 1 - LN2
    found = values(compute("grpo", unequal(ref), beta=0.5))
    assert found == pytest.approx([-1.1 + k3 / 2, 0.9 + k3 / 6], abs=1e-12)
    found = values(compute("dapo", unequal(ref), beta=0.5))
    assert found == pytest.approx([-1.1 + k3 / 2, 2.7 + k3 / 2], abs=1e-12)
    found = values(compute("dr-grpo", unequal(ref), beta=0.5, longest=10))
    assert found == pytest.approx([-0.11 + k3 / 20, 0.27 + k3 / 20], abs=1e-12)
    found = values(compute("gspo", unequal(ref), beta=0.5, clip_low=0.3, clip_high=0.3))
    assert found == pytest.approx([-1.1 + k3 / 2, 0.45 ** (1 / 3) + k3 / 6], abs=1e-12)


def test_the_sampler_s_log_probs_weigh_the_tokens() -> None:
    # π_old/π_sampler = 1.5 and 4, which is cut at 2: (1.5 + 2 · 1)/2; of gspo the mean weight
    sampler = [-1 - math.log(1.5), -1 - math.log(4.0)]
    batch = samples([-1.0, -1.0], [2.0], [-1.0], sampler=sampler)
    for name in ("grpo", "gspo"):
        assert values(compute(name, batch, beta=0.0)) == pytest.approx([1.75], abs=1e-12)
        free = compute(name, batch, beta=0.0, importance_cap=0.0)
        assert values(free) == pytest.approx([1.0], abs=1e-12)


def test_the_advantage_is_the_reward_in_deviations_of_its_group() -> None:
    # (0, 3): mean 1.5, std √(2 · 1.5²/1) = 2.12132; (2, 2): flat; alone: 0
    known = scored([0.0, 2.0, 3.0, 2.0, 5.0], [0, 1, 0, 1, 2], [1, 2, 1, 1, 1])
    one = 1.5 / (1.5 * math.sqrt(2) + 1e-4)
    for name in ("grpo", "dapo", "gspo"):
        method, params = as_given(name)
        assert method.credit is not None
        found = method.credit(known, params, {}).advantage_N.tolist()
        assert found == pytest.approx([-one, 0.0, 0.0, one, 0.0, 0.0], abs=1e-12)


def test_dr_grpo_s_advantage_is_not_divided() -> None:
    method, params = as_given("dr-grpo")
    assert method.credit is not None
    known = scored([0.0, 2.0, 3.0, 2.0, 5.0], [0, 1, 0, 1, 2], [1, 2, 1, 1, 1])
    assert method.credit(known, params, {}).advantage_N.tolist() == [-1.5, 0, 0, 1.5, 0, 0]


def test_what_the_variants_declare() -> None:
    online = {name: METHODS[name].online for name in ("grpo", "dapo", "dr-grpo", "gspo")}
    assert [o.least for o in online.values() if o] == [2] * 4, "one answer has no group"
    assert [o.dynamic for o in online.values() if o] == [False, True, False, False]
