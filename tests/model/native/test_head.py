from __future__ import annotations

import pytest
import torch
from tests.model.native.needs import needs_native
from torch import Tensor

from palate.model.native.head import head_logps, serves

pytestmark = needs_native


def case(rows: int, width: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, W, and predictions of which some rows have two; and their gradients."""
    draw = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=draw).bfloat16().float()
    matrix = (torch.randn(vocabulary, width, generator=draw) * 0.2).bfloat16().float()
    twice = torch.randint(0, rows, (rows // 3,), generator=draw)
    rows_P = torch.cat([torch.arange(rows), twice]).sort().values
    targets_P = torch.randint(0, vocabulary, (len(rows_P),), generator=draw)
    return hidden, matrix, rows_P, targets_P, torch.randn(len(rows_P), generator=draw)


# more rows than a task, words that fill no block, and less than one block
@pytest.mark.parametrize(
    ("rows", "width", "vocabulary"), [(300, 64, 1000), (33, 96, 513), (70, 32, 40), (5, 64, 512)]
)
def test_log_probs_and_gradients_equal_float64(rows: int, width: int, vocabulary: int) -> None:
    hidden, matrix, rows_P, targets_P, grad_P = case(rows, width, vocabulary)
    leaves = [hidden.clone().requires_grad_(), matrix.clone().requires_grad_()]
    logps_P = head_logps(*leaves, rows_P, targets_P)
    found = torch.autograd.grad(logps_P, leaves, grad_P)
    wide = [t.double().requires_grad_() for t in (hidden, matrix)]
    exact_P = (wide[0] @ wide[1].t()).log_softmax(-1)[rows_P, targets_P]
    right = torch.autograd.grad(exact_P, wide, grad_P.double())
    assert (logps_P - exact_P).abs().max() < 2e-5  # fp32 logits, not bf16 ones
    for mine, theirs in zip(found, right, strict=True):
        assert (mine.double() - theirs).norm() / theirs.norm() < 2e-3  # softmax rounded to bf16


def test_a_frozen_head_and_no_gradient_at_all_give_the_same_bits() -> None:
    hidden, matrix, rows_P, targets_P, grad_P = case(100, 64, 700)
    leaf, other = hidden.clone().requires_grad_(), matrix.clone().requires_grad_()
    frozen = head_logps(leaf, matrix.bfloat16(), rows_P, targets_P)
    trained = head_logps(leaf, other, rows_P, targets_P)
    with torch.no_grad():
        without = head_logps(hidden, matrix, rows_P, targets_P)
    assert torch.equal(frozen, trained)
    assert torch.equal(frozen, without)
    (one,) = torch.autograd.grad(frozen, leaf, grad_P)
    two, _ = torch.autograd.grad(trained, (leaf, other), grad_P)
    assert torch.equal(one, two)


def test_large_logits_do_not_overflow() -> None:
    hidden = torch.full((2, 32), 8.0)
    matrix = torch.zeros(600, 32)
    matrix[599] = 4.0  # logit 1024, in the second block
    logps_P = head_logps(hidden, matrix, torch.tensor([0, 1]), torch.tensor([599, 0]))
    assert logps_P.tolist() == [0.0, -1024.0]


def test_the_number_of_threads_changes_no_bit() -> None:
    hidden, matrix, rows_P, targets_P, grad_P = case(600, 64, 1000)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves = [hidden.clone().requires_grad_(), matrix.clone().requires_grad_()]
            logps_P = head_logps(*leaves, rows_P, targets_P)
            results.append([logps_P.detach(), *torch.autograd.grad(logps_P, leaves, grad_P)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_it_serves_under_bf16_autocast_only() -> None:
    hidden, matrix = torch.zeros(3, 64), torch.zeros(10, 64)
    assert not serves(hidden, matrix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert serves(hidden, matrix)
        assert not serves(hidden, None)
        assert not serves(hidden[:, :40], matrix[:, :40])
