"""What the policy gradients share, and what holds for every method on samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from tests.losses.answers import samples
from tests.losses.sides import as_given, gradients, leaf, wide
from torch import Tensor

from palate.losses.batch import Context, LossOutput
from palate.losses.policy_gradient import (
    clip_share_N,
    importance_N,
    k3_N,
    ratio_of,
    sample_metrics,
    summed_surrogate_B,
    surrogate_N,
)
from palate.losses.registry import METHODS
from palate.losses.samples import Samples

LN2 = math.log(2)
# Besides each method's defaults: what takes another branch.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "dapo": [{"beta": 0.3}],
    "dr-grpo": [{"beta": 0.3}],
    "gspo": [{"beta": 0.3, "clip_low": 0.2, "clip_high": 0.2}],
    "grpo": [{"beta": 0.0, "importance_cap": 0.0}],
    "ppo": [{"value_weight": 0.0}],
}
SAMPLING = [name for name, method in METHODS.items() if method.shape == "sample"]
CASES = [
    pytest.param({"name": name, **given}, id="-".join(map(str, [name, *given.values()])))
    for name in SAMPLING
    for given in [{}, *VARIANTS.get(name, [])]
]


# The pieces -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "held"),
    [
        # A > 0: min(2ρ, 2 clip(ρ)), held above 1 + 0.3
        (1.5, 2.0, -2.6, 0.0, 1.0),
        (1.25, 2.0, -2.5, -2.0, 0.0),
        (0.5, 2.0, -1.0, -2.0, 0.0),
        # A < 0: the larger of 3ρ and 3 clip(ρ), held below 1 − 0.2
        (1.5, -3.0, 4.5, 3.0, 0.0),
        (0.9, -3.0, 2.7, 3.0, 0.0),
        (0.5, -3.0, 2.4, 0.0, 1.0),
        (1.5, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_clip_holds_on_one_side_by_the_sign(
    ratio: float, advantage: float, loss: float, slope: float, held: float
) -> None:
    ratio_N, advantage_N = leaf([ratio]), wide([advantage])
    value = surrogate_N(ratio_N, advantage_N, 0.2, 0.3)
    (found,) = torch.autograd.grad(value.sum(), ratio_N)
    assert value.tolist() == pytest.approx([loss], abs=1e-12)
    assert found.tolist() == pytest.approx([slope], abs=1e-12)
    assert clip_share_N(ratio_N.detach(), advantage_N, 0.2, 0.3).tolist() == [held]


def test_a_ratio_has_an_end() -> None:
    x = leaf([-1e4, 0.0, 1.0, 1e4])
    value = ratio_of(x)
    assert value.tolist() == pytest.approx([0.0, 1.0, math.e, math.exp(30)])
    assert torch.autograd.grad(value.sum(), x)[0].tolist() == pytest.approx([0, 1, math.e, 0])


def test_importance_weights_are_cut_at_the_cap() -> None:
    # old − sampler = ln 1.5, ln 4, ln ½, 0
    batch = samples(
        [-1.0] * 4,
        [4.0],
        [1.0],
        sampler=[-1 - math.log(w) for w in (1.5, 4.0, 0.5, 1.0)],
    )
    assert importance_N(batch, 2.0).tolist() == pytest.approx([1.5, 2.0, 0.5, 1.0])
    assert importance_N(batch, 5.0).tolist() == pytest.approx([1.5, 4.0, 0.5, 1.0])
    assert importance_N(batch, 0.0).tolist() == [1.0] * 4
    assert importance_N(replace(batch, sampler_N=None), 2.0).tolist() == [1.0] * 4


def test_the_surrogate_of_whole_answers() -> None:
    # first: ρ = e^{ln 1.5 − ln 1.25} = 1.2 of A = 2, with weights (2, ½, 1 and so 3.5/3);
    # second: ρ = ½, A = −4, cut at 0.75
    batch = samples(
        [-1 + math.log(1.5), -1 - math.log(1.25), -1.0, -1 - LN2],
        [3.0, 1.0],
        [2.0, -4.0],
        old=[-1.0] * 4,
        sampler=[-1 - LN2, -1 + LN2, -1.0, -1.0],
    )
    found = summed_surrogate_B(batch, 0.25, 8.0).tolist()
    assert found == pytest.approx([-2.4 * 3.5 / 3, 3.0], abs=1e-12)


def test_at_the_policy_that_drew_them_the_gradient_is_that_of_reinforce() -> None:
    # −A for every token of an answer
    logp_N = leaf([-1.0, -2.0, -0.5])
    value = summed_surrogate_B(samples(logp_N, [2.0, 1.0], [3.0, -5.0]), 0.2, 2.0)
    assert torch.autograd.grad(value.sum(), logp_N)[0].tolist() == [-3.0, -3.0, 5.0]


def test_what_is_reported_of_samples() -> None:
    batch = samples(
        leaf([-1.0, -2.0, -4.0]),
        [2.0, 1.0],
        [3.0, -5.0],
        old=[-1.5, -2.0, -3.0],
        reward=[0.5, 1.0],
        ref=[-2.0, -2.5, -4.0],
        sampler=[-1.0, -2.25, -3.0],
    )
    found = {name: value.tolist() for name, value in sample_metrics(batch).items()}
    assert found == {
        "reward": [0.5, 1.0],
        "length": [2.0, 1.0],
        "advantage": [3.0, -5.0],
        "surprise": [1.5, 4.0],  # (1 + 2)/2
        "moved": [0.5, -1.0],
        "kl": [1.5, 0.0],  # 1 + ½
        "mismatch": [0.375, 0.0],  # (½ + ¼)/2
    }


# KL estimators as losses, over all answers of a policy on four tokens ----------------------

POLICY = wide([0.4, 0.3, 0.2, 0.1])
REF = wide([0.1, 0.2, 0.3, 0.4])


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    return (logp - ref) ** 2 / 2


def expected_slope(estimator: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean over samples of π of the gradient with respect to the logits."""
    logits = POLICY.log().requires_grad_()
    values = estimator(logits.log_softmax(0), REF.log())
    return torch.autograd.grad((POLICY * values).sum(), logits)[0]


def test_k3_has_the_value_of_the_kl() -> None:
    # Σ π(π_ref/π − 1 − log π_ref/π) = 1 − 1 + KL(π ‖ π_ref)
    values = k3_N(POLICY.log(), REF.log())
    assert (values >= 0).all()
    expected = float((POLICY * (POLICY / REF).log()).sum())
    assert float((POLICY * values).sum()) == pytest.approx(expected, abs=1e-12)
    # at d = ln 2: 2 − 1 − ln 2
    one = k3_N(wide([-1.0]), wide([-1 + LN2]))
    assert one.tolist() == pytest.approx([1 - LN2], abs=1e-12)


def test_k1_has_no_expected_gradient() -> None:
    # Σ π ∇log π = ∇Σ π = 0
    assert expected_slope(k1).tolist() == pytest.approx([0.0] * 4, abs=1e-12)


def test_k2_has_the_gradient_of_the_reverse_kl() -> None:
    # ∂/∂θ_i Σ π log π/π_ref = π_i (log π_i/π_ref,i − KL)
    ratio = (POLICY / REF).log()
    expected = POLICY * (ratio - (POLICY * ratio).sum())
    torch.testing.assert_close(expected_slope(k2), expected)


def test_k3_has_the_gradient_of_the_forward_kl() -> None:
    # ∂/∂θ_i Σ π_ref log π_ref/π = π_i − π_ref,i
    torch.testing.assert_close(expected_slope(k3_N), POLICY - REF)


# Every method on samples ------------------------------------------------------------------

LENGTHS = [3.0, 1.0, 4.0, 2.0]
TOKENS = 10


def method_and(given: dict[str, Any]) -> tuple[Any, Any]:
    """The method and its parameters, with what a run decides: the longest answer."""
    method, params = as_given(**given)
    named = {one.name for one in fields(params)}
    return method, replace(params, longest=7) if "longest" in named else params


def numbers(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, TOKENS, generator=generator, dtype=torch.float64)


def drawn(given: dict[str, Any], logp: Tensor, value: Tensor, seed: int = 0) -> Samples:
    """Four answers; ratios from 0.6 to 1.6 lie on either side of the clips."""
    method, _ = method_and(given)
    noise = numbers(5, 100 + seed)
    near, before = logp.detach(), value.detach()
    batch = samples(
        logp,
        LENGTHS,
        [1.5, -0.7, -2.0, 0.4],
        old=near + 0.25 * noise[0],
        sampler=near + 0.25 * noise[1],
        ref=near + noise[2] if method.reference else None,
    )
    if method.head != "value":
        return batch
    old_value_N, return_N = before + 0.3 * noise[3], before + noise[4]
    return replace(batch, value_N=value, old_value_N=old_value_N, return_N=return_N)


def loss_of(given: dict[str, Any], batch: Samples) -> LossOutput:
    method, params = method_and(given)
    output: LossOutput = method.loss(batch, params, Context())
    return output


@pytest.mark.parametrize("given", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_the_loss(given: dict[str, Any], seed: int) -> None:
    """Against difference quotients; no seed comes near a clip's corner."""
    rows = numbers(2, seed)
    logp, value = (rows[0] - 3).requires_grad_(), rows[1].requires_grad_()
    fixed = drawn(given, logp, value, seed)

    def of_logp(moved: Tensor) -> Tensor:
        return loss_of(given, replace(fixed, logp_N=moved, value_N=value.detach())).loss_B

    def of_value(moved: Tensor) -> Tensor:
        return loss_of(given, replace(fixed, logp_N=logp.detach(), value_N=moved)).loss_B

    assert torch.autograd.gradcheck(of_logp, [logp], eps=1e-6, atol=1e-6, rtol=1e-5)
    if fixed.value_N is not None and given != {"name": "ppo", "value_weight": 0.0}:
        assert torch.autograd.gradcheck(of_value, [value], eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("given", CASES)
def test_metrics_have_no_gradient_and_one_value_for_each_answer(given: dict[str, Any]) -> None:
    rows = numbers(2, 0).requires_grad_()
    out = loss_of(given, drawn(given, rows[0] - 3, rows[1]))
    assert out.loss_B.shape == (4,)
    assert out.loss_B.requires_grad
    for name, value in out.metrics.items():
        assert value.shape == (4,), name
        assert not value.requires_grad, name


@pytest.mark.parametrize("given", CASES)
def test_an_answer_s_loss_does_not_depend_on_the_others_of_its_micro_batch(
    given: dict[str, Any],
) -> None:
    # so that the step, which divides by its own count, may cut as it likes
    rows = numbers(2, 2)
    batch = drawn(given, rows[0] - 3, rows[1])
    together = loss_of(given, batch)
    for answer in range(batch.size):
        mine = batch.branches_N == answer
        one = Samples(
            **{
                f.name: value
                if value is None
                else value[mine]
                if f.name.endswith("_N")
                else value[answer : answer + 1]
                for f in fields(Samples)
                for value in (getattr(batch, f.name),)
            }
        )
        alone = loss_of(given, replace(one, branches_N=torch.zeros_like(one.branches_N)))
        torch.testing.assert_close(alone.loss_B, together.loss_B[answer : answer + 1])
        for name, value in alone.metrics.items():
            torch.testing.assert_close(value, together.metrics[name][answer : answer + 1])


ENDS = [-1e4, -700.0, -80.0, -1e-3, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", CASES)
def test_values_and_gradients_are_finite_at_the_far_ends(
    given: dict[str, Any], dtype: torch.dtype
) -> None:
    # every log-prob now against every one then, and advantages of either sign and 0
    method, _ = method_and(given)
    grids = torch.meshgrid(
        torch.tensor(ENDS, dtype=dtype),
        torch.tensor(ENDS, dtype=dtype),
        torch.tensor([-10.0, 0.0, 10.0], dtype=dtype),
        indexing="ij",
    )
    now, then, advantage = (grid.flatten() for grid in grids)
    logp, value = now.clone().requires_grad_(), then.clone().requires_grad_()
    batch = samples(
        logp,
        [1.0] * len(now),
        advantage,
        old=then,
        sampler=now.detach(),
        ref=then if method.reference else None,
    )
    if method.head == "value":
        batch = replace(batch, value_N=value, old_value_N=now, return_N=-now)
    out = loss_of(given, batch)
    assert out.loss_B.dtype == dtype
    assert torch.isfinite(out.loss_B).all()
    for found in gradients(out, logp, value):
        assert all(math.isfinite(x) for x in found)
    for name, values in out.metrics.items():
        assert torch.isfinite(values).all(), name


@pytest.mark.parametrize("name", SAMPLING)
def test_a_better_answer_becomes_likelier_and_a_worse_one_less(name: str) -> None:
    # at the policy that drew them, by tokens of equal advantage, without a tie
    logp = leaf([-1.0, -2.0, -1.0, -2.0])
    batch = samples(logp, [2.0, 2.0], [2.0, -2.0], ref=[-1.0, -2.0, -1.0, -2.0])
    if METHODS[name].head == "value":
        still = wide([0.0] * 4)
        batch = replace(batch, value_N=still, old_value_N=still, return_N=still)
    (slope,) = gradients(loss_of({"name": name}, batch), logp)
    assert slope[0] == slope[1] < 0 < slope[2] == slope[3]
    assert slope[0] == pytest.approx(-slope[2])
