from __future__ import annotations

import pytest
import torch
from tests.model.kernel_doubles import random_forest
from tests.tiny import tiny_model

from palate.model.policy import Policy
from palate.tokens.padding import STEP, bucket, pad_forest


def test_buckets_are_few_near_and_multiples_of_a_mask_block() -> None:
    sizes = [bucket(n) for n in range(1, 9000)]
    assert sizes == sorted(sizes)
    assert all(size % STEP == 0 for size in sizes)
    for tokens, size in enumerate(sizes, 1):
        assert tokens <= size < tokens + max(STEP, tokens / 8 + 1)
    assert len({size for size in sizes if 4096 < size <= 8192}) == 8
    assert bucket(4096) == 4096
    assert bucket(4097) == 4608


@pytest.mark.parametrize("extra", [1, 37])
def test_padded_rows_change_nothing(extra: int) -> None:
    """In float64: log-probs and every gradient are the same numbers."""

    def run(size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = tiny_model().double()
        forest = random_forest(4)
        out = Policy(model)(pad_forest(forest, forest.unique_tokens + size)).token_logps_N
        (out * torch.linspace(1, 2, len(out))).sum().backward()
        return out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    plain, plain_grads = run(0)
    padded, padded_grads = run(extra)
    assert torch.allclose(padded, plain, atol=1e-6)  # log-probs are fp32
    for name, grad in plain_grads.items():
        scale = float(grad.abs().max())
        assert float((padded_grads[name] - grad).abs().max()) <= 1e-6 * scale, name


def test_a_padded_row_gets_no_gradient() -> None:
    model = tiny_model()
    forest = random_forest(4)
    padded = pad_forest(forest, forest.unique_tokens + 5)
    padded.ids_T[-5:] = 271  # a token that stands nowhere else
    assert 271 not in forest.ids_T
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # untied
    Policy(model)(padded).token_logps_N.sum().backward()
    grad = model.get_input_embeddings().weight.grad
    assert float(grad[271].abs().max()) == 0
    assert float(grad.abs().max()) > 0


def test_a_padded_forest_is_made_once_and_never_cut() -> None:
    forest = random_forest(0)
    assert pad_forest(forest, forest.unique_tokens) is forest
    assert pad_forest(forest, 500) is pad_forest(forest, 500)
    with pytest.raises(AssertionError, match="never cut"):
        pad_forest(forest, forest.unique_tokens - 1)
