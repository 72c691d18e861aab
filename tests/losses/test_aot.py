from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, context_of, gradients, leaf, side, softplus, wide
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.aot import AOT
from palate.losses.batch import Context, Pairs, Side
from palate.losses.registry import METHODS, find


def pairs(w: Tensor, rejected: Tensor, ref_w: Tensor, ref_l: Tensor) -> Pairs:
    """From log-probs of policy and reference."""
    return Pairs(side(w - ref_w, logp=w), side(rejected - ref_l, logp=rejected))


def random(seed: int = 0, size: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w, rejected, ref_w, ref_l = torch.randn(
        4, size, generator=generator, dtype=torch.float64
    ).unbind()
    return w.requires_grad_(), rejected.requires_grad_(), ref_w, ref_l


@pytest.mark.parametrize("name", ["aot", "aot-unpaired"])
def test_at_the_reference_the_loss_is_ln_2_for_every_pair(name: str) -> None:
    w, rejected = wide([-3.0, -1.0, -2.0]), wide([-2.0, -2.0, -9.0])
    out = compute(name, pairs(w, rejected, w, rejected))
    assert out.loss_B.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-15)
    assert METHODS[name].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_paired_by_hand() -> None:
    # policy margins u = (3, 1), reference margins v = (0, 2): sorted (1, 3) and (0, 2).
    # The pair with u = 3 meets 2, the one with u = 1 meets 0: z = β in both
    batch = pairs(wide([4.0, 3.0]), wide([1.0, 2.0]), wide([1.0, 3.0]), wide([1.0, 1.0]))
    out = compute("aot", batch, beta=0.5)
    assert out.loss_B.tolist() == pytest.approx([softplus(-0.5)] * 2, abs=1e-12)


def test_unpaired_by_hand() -> None:
    # a = (2, 0), b = (−1, 5): sorted (0, 2) and (−1, 5). a = 2 meets 5, a = 0 meets −1:
    # z = −3β for the first pair and β for the second
    batch = Pairs(side([2.0, 0.0]), side([-1.0, 5.0]))
    out = compute("aot-unpaired", batch, beta=1.0)
    assert out.loss_B.tolist() == pytest.approx([softplus(3.0), softplus(-1.0)], abs=1e-12)


def through_sort(
    name: str, w: Tensor, rejected: Tensor, ref_w: Tensor, ref_l: Tensor, epsilon: float
) -> Tensor:
    """The definition, with autograd through torch.sort over the whole step (β = ½)."""
    if name == "aot":
        high, low = w - rejected, ref_w - ref_l
    else:
        high, low = w - ref_w, rejected - ref_l
    z = 0.5 * (high.sort().values - low.sort().values)
    return (-(1 - epsilon) * logsigmoid(z) - epsilon * logsigmoid(-z)).sum()


@pytest.mark.parametrize("name", ["aot", "aot-unpaired"])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_value_and_gradient_are_those_of_sorting_the_whole_step(name: str, epsilon: float) -> None:
    w, rejected, ref_w, ref_l = random()
    batch = pairs(w, rejected, ref_w, ref_l)
    method, params = find({"name": name, "beta": 0.5, "epsilon": epsilon})
    context = context_of(method, params, batch)
    # in three micro-batches, each with its part of the step's statistic
    total = torch.zeros(())
    for rows in ([0, 5, 7, 2], [1, 3, 11], [4, 6, 8, 9, 10]):
        micro = pairs(w[rows], rejected[rows], ref_w[rows], ref_l[rows])
        cut = Context(per_row={key: value[rows] for key, value in context.per_row.items()})
        total = total + method.loss(micro, params, cut).loss_B.sum()
    expected = through_sort(name, w, rejected, ref_w, ref_l, epsilon)
    assert total.item() == pytest.approx(expected.item(), abs=1e-12)
    found = torch.autograd.grad(total, [w, rejected])
    wanted = torch.autograd.grad(expected, [w, rejected])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert min(float(part.abs().min()) for part in found) > 0


def test_unpaired_does_not_care_which_answers_stand_together() -> None:
    w, rejected, ref_w, ref_l = (t.detach() for t in random())
    shuffled = torch.tensor([3, 1, 0, 2, 11, 10, 9, 8, 7, 6, 5, 4])
    one = compute("aot-unpaired", pairs(w, rejected, ref_w, ref_l)).loss_B.sum()
    batch = pairs(w, rejected[shuffled], ref_w, ref_l[shuffled])
    assert compute("aot-unpaired", batch).loss_B.sum().item() == pytest.approx(one.item())


def test_of_one_pair_the_paired_form_is_dpo() -> None:
    a, b = leaf([2.0]), leaf([-1.0])
    batch = Pairs(Side(a - 4, a, torch.ones(1)), Side(b - 7, b, torch.ones(1)))
    assert compute("aot", batch).loss_B.tolist() == compute("dpo", batch).loss_B.tolist()
    assert gradients(compute("aot", batch), a, b) == gradients(compute("dpo", batch), a, b)


def test_ties_are_sorted_without_loss() -> None:
    # equal margins meet the two references in some order: 1 − 0 and 1 − 2 at β = 1
    one = wide([1.0, 1.0])
    batch = pairs(one, one * 0, wide([0.0, 2.0]), one * 0)
    found = sorted(METHODS["aot"].loss(batch, AOT(beta=1.0), tied(batch)).loss_B.tolist())
    assert found == pytest.approx([softplus(-1.0), softplus(1.0)])


def tied(batch: Pairs) -> Context:
    return context_of(METHODS["aot"], AOT(beta=1.0), batch)


def test_smoothing_is_for_labels_better_than_chance() -> None:
    for name in ("aot", "aot-unpaired"):
        with pytest.raises(ValueError, match=r"below 0\.5"):
            find({"name": name, "epsilon": 0.5})
