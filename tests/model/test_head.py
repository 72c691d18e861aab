"""The head in chunks: the plain computation, its gradients, and what is not kept in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.kernel_doubles import random_forest
from tests.tiny import tiny_model
from torch import Tensor, nn
from transformers import Gemma2Config, GraniteConfig

from palate.config import AdapterConfig
from palate.model import head as heads
from palate.model.adapters import attach
from palate.model.head import LOGITS_BUDGET, logits_budget, matrix_of, target_logps
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.tokens.tree import Branch, Forest, build_forest

V, D = 40, 16
CHUNK = 4 * V * 5  # five rows at once


def forest() -> Forest:
    """Rows that predict one target and rows that predict several, also across a chunk's edge."""
    branches = []
    for number in range(5):
        ids = [1, 2, 3, 4 + number, *range(10, 14 + number)]
        branches.append(Branch(ids, [False, False, *[True] * (len(ids) - 2)]))
    return build_forest(branches, min_shared=1)


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.Linear, Forest]:
    torch.manual_seed(0)
    tree = forest()
    head = nn.Linear(D, V, bias=False, dtype=dtype)
    hidden = torch.randn(len(tree.hidden_H), D, dtype=dtype, requires_grad=True)
    return hidden, head, tree


def run(budget: int, matrix: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    hidden, head, tree = problem(dtype)
    logps = target_logps(head, hidden, tree, V, budget, matrix_of(head) if matrix else None)
    weight = torch.linspace(-1, 2, len(logps), dtype=logps.dtype)
    grads = torch.autograd.grad((logps * weight).sum(), [hidden, head.weight])
    return [logps.detach(), *grads]


def test_first_H_delimits_each_rows_predictions() -> None:
    tree = forest()
    assert tree.first_H[0] == 0
    assert tree.first_H[-1] == len(tree.rows_P)
    for row in range(len(tree.hidden_H)):
        own = tree.rows_P[tree.first_H[row] : tree.first_H[row + 1]]
        assert own.tolist() == [row] * len(own)
        assert len(own)


@pytest.mark.parametrize("matrix", [True, False])
def test_chunks_equal_the_whole_with_their_gradients(matrix: bool) -> None:
    whole, parts = run(LOGITS_BUDGET, matrix), run(CHUNK, matrix)
    # both are fp32 inside the whole form; the function keeps float64
    for mine, theirs in zip(parts, whole, strict=True):
        assert torch.allclose(mine.double(), theirs.double(), atol=1e-6)


def test_its_gradient_is_the_derivative() -> None:
    hidden, head, tree = problem()

    def logps(hidden: Tensor, weight: Tensor) -> Tensor:
        return target_logps(head, hidden, tree, V, CHUNK, weight)

    assert torch.autograd.gradcheck(logps, (hidden, head.weight))


def test_in_bf16_it_is_as_close_to_fp64_as_the_whole() -> None:
    """As in training: an fp32 master under autocast, here of numbers that bf16 holds exactly."""
    hidden, head, tree = problem(torch.bfloat16)
    head.weight.data = head.weight.detach().float()

    def gradients(dtype: torch.dtype, budget: int, matrix: bool) -> list[Tensor]:
        wide = nn.Linear(D, V, bias=False, dtype=dtype)
        wide.weight.data = head.weight.detach().to(dtype)
        rows = hidden.detach().to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
            logps = target_logps(wide, rows, tree, V, budget, wide.weight if matrix else None)
        weight = torch.linspace(-1, 2, len(logps), dtype=logps.dtype)
        found = torch.autograd.grad((logps * weight).sum(), [rows, wide.weight])
        return [logps.detach().double(), *(g.double() for g in found)]

    exact = gradients(torch.float64, CHUNK, matrix=True)
    whole = gradients(torch.float32, LOGITS_BUDGET, matrix=False)
    parts = gradients(torch.float32, CHUNK, matrix=True)
    for c, a, b in zip(exact, whole, parts, strict=True):
        usual = float((a - c).square().mean().sqrt())
        assert usual > 0
        assert float((b - c).square().mean().sqrt()) <= 1.1 * usual


def test_a_trained_heads_gradient_is_summed_in_fp32_over_chunks() -> None:
    """256 rows that each give a weight the same small gradient, one row a chunk.

    In bf16 a running sum stops growing once it is 256 times a part; here it must be 256 parts.
    """
    tree = build_forest([Branch([0, 1, *[2, 1] * 256], [False, False, *[False, True] * 256])])
    rows = len(tree.hidden_H)
    head = nn.Linear(D, V, bias=False, dtype=torch.bfloat16)
    head.weight.data.zero_()
    head.weight.data = head.weight.data.float()  # an fp32 master under autocast
    hidden = torch.ones(rows, D, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logps = target_logps(head, hidden, tree, V, 4 * V, head.weight)
    logps.sum().backward()
    assert head.weight.grad is not None
    one = float(torch.tensor(-1 / V).bfloat16())  # −p, rounded once; p = 1/V as all logits are 0
    assert torch.allclose(head.weight.grad[0], torch.tensor(rows * one), rtol=1e-6)


def test_a_frozen_head_gets_no_gradient_and_costs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, tree = problem()
    head.requires_grad_(False)
    monkeypatch.setattr(heads, "_add_product", lambda *_: pytest.fail("nobody wants it"))
    target_logps(head, hidden, tree, V, CHUNK, matrix_of(head)).sum().backward()
    assert head.weight.grad is None
    assert hidden.grad is not None


def test_no_chunk_of_logits_is_kept() -> None:
    hidden, head, tree = problem()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        target_logps(head, hidden, tree, V, CHUNK, matrix_of(head))
    assert max(kept) <= max(V * D, hidden.numel())


def test_which_heads_are_one_matrix() -> None:
    assert matrix_of(nn.Linear(2, 3, bias=False)) is not None
    assert matrix_of(nn.Linear(2, 3)) is None

    class Scaled(nn.Linear):
        pass

    assert matrix_of(Scaled(2, 3, bias=False)) is None
    hooked = nn.Linear(2, 3, bias=False)
    hooked.register_forward_hook(lambda *_: None)
    assert matrix_of(hooked) is None


def test_changed_logits_and_adapted_heads_take_the_general_form() -> None:
    small: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
    }
    from transformers import AutoModelForCausalLM

    capped = AutoModelForCausalLM.from_config(Gemma2Config(**small))
    assert Policy(capped)._head_matrix() is None
    scaled = AutoModelForCausalLM.from_config(GraniteConfig(**small, logits_scaling=2.0))
    assert Policy(scaled)._head_matrix() is None
    assert Policy(tiny_model())._head_matrix() is not None
    adapted = tiny_model()
    attach(adapted, AdapterConfig(targets=["lm_head"]), 0)
    assert Policy(adapted)._head_matrix() is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_policy_in_chunks_is_the_policy(kind: str, precision: str) -> None:
    """Tied head (llama): its gradient is the embedding's too."""

    def gradients(budget: int) -> tuple[Tensor, dict[str, Tensor]]:
        model = tiny_model()
        attach(model, AdapterConfig(kind=kind, rank=4), 3)  # type: ignore[arg-type]
        if kind == "lora":  # the second factor starts at 0, and would hide the first's gradient
            for name, p in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(1))
        to_compute(model, precision)  # type: ignore[arg-type]
        policy = Policy(model, precision=precision, logits_budget=budget)  # type: ignore[arg-type]
        out = policy(random_forest(3, longest=20)).token_logps_N
        out.sum().backward()
        found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        return out.detach(), found

    whole, whole_grads = gradients(LOGITS_BUDGET)
    parts, parts_grads = gradients(4 * 272 * 3)
    close = 1e-5 if precision == "fp32" else 2e-2
    assert torch.allclose(parts, whole, atol=1e-5)
    assert parts_grads.keys() == whole_grads.keys()
    for name, grad in whole_grads.items():
        scale = float(grad.abs().max())
        assert float((parts_grads[name] - grad).abs().max()) <= close * scale, name


def test_the_budget_of_a_cpu_is_fixed() -> None:
    assert logits_budget(torch.device("cpu")) == LOGITS_BUDGET


def test_a_gpus_budget_follows_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (64 * 2**30, 80 * 2**30))
    assert logits_budget(device) == 4 * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**30, 80 * 2**30))
    assert logits_budget(device) == LOGITS_BUDGET
