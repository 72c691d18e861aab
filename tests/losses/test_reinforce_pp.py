from __future__ import annotations

import math

import pytest
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute, gradients, leaf

from palate.losses.credit import Scored


def advantages(known: Scored, **given: float) -> list[float]:
    method, params = as_given("reinforce++", **given)
    assert method.credit is not None
    found: list[float] = method.credit(known, params, {}).advantage_N.tolist()
    return found


KNOWN = scored([1.0, 0.0], [0, 1], [2, 1], ratio=[0.5, -1.0, 2.0])


def test_the_rollout_is_its_own_baseline() -> None:
    # β = 0.1: rewards −0.05 and 1 + 0.1, and −0.2; to go 1.05, 1.1, −0.2 with mean 0.65 and
    # variance (0.4² + 0.45² + 0.85²)/2 = 0.5425
    std = math.sqrt(0.5425)
    expected = [0.4 / std, 0.45 / std, -0.85 / std]
    assert advantages(KNOWN, beta=0.1) == pytest.approx(expected, abs=1e-7)


def test_later_rewards_count_less() -> None:
    # γ = ½: to go −0.05 + ½ · 1.1 = 0.5, 1.1, −0.2 with mean 7/15
    to_go = [0.5, 1.1, -0.2]
    mean = sum(to_go) / 3
    std = math.sqrt(sum((x - mean) ** 2 for x in to_go) / 2)
    expected = [(x - mean) / std for x in to_go]
    assert advantages(KNOWN, beta=0.1, gamma=0.5) == pytest.approx(expected, abs=1e-7)


def test_groups_do_not_matter() -> None:
    same = scored([1.0, 0.0], [0, 0], [2, 1], ratio=[0.5, -1.0, 2.0])
    assert advantages(same) == advantages(KNOWN)


def test_the_loss_is_the_mean_over_each_answer_s_tokens() -> None:
    # A by token: −1.1 · 2, and 0.5 · 1 that is held at 0.8: (−2.2 + 0.8)/2
    logp = leaf([-1 + math.log(1.1), -1 + math.log(0.5)])
    batch = samples(logp, [2.0], [0.0], old=[-1.0, -1.0])
    batch.advantage_N[:] = logp.new_tensor([2.0, -1.0])
    out = compute("reinforce++", batch, beta=0.0)
    assert out.loss_B.tolist() == pytest.approx([-0.7], abs=1e-12)
    assert gradients(out, logp)[0] == pytest.approx([-1.1, 0.0], abs=1e-12)
    assert out.metrics["clipped"].tolist() == [0.5]
