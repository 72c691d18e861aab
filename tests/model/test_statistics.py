"""Statistics of the vocabulary: the dense computation, its gradient, and nothing held for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.forests import plain_logps, random_branches
from tests.tiny import tiny_model
from torch import Tensor, nn

from palate.config import AdapterConfig
from palate.model.adapters import adapters_off, attach
from palate.model.load import to_compute
from palate.model.policy import Ask, Layout, Policy
from palate.model.statistics import Distribution, row_statistics
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch, build_forest
from palate.train.reference import LiveReference
from palate.train.shapes import MicroBatch

H, D, V = 11, 8, 40
ALL = ("kl", "log_sum_p2", "entropy")
# Bytes for three rows of logits at once, and for all of them.
FEW, MANY = 3 * 4 * 4 * V, 2**20


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.Linear, Tensor, nn.Linear]:
    """Our hidden states and head, and another's."""
    torch.manual_seed(0)
    ours, theirs = (torch.randn(H, D, dtype=dtype) for _ in range(2))
    head, other = (nn.Linear(D, V, bias=False, dtype=dtype) for _ in range(2))
    with torch.no_grad():
        head.weight.mul_(4)
        other.weight.mul_(4)
    return ours.requires_grad_(), head, theirs, other


def dense(logits: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Each statistic from probabilities, as its definition has it."""
    p, q = logits.softmax(-1), other.softmax(-1)
    return {
        "kl": (q * (q / p).log()).sum(-1),
        "log_sum_p2": (p * p).sum(-1).log(),
        "entropy": -(p * p.log()).sum(-1),
    }


@pytest.mark.parametrize("budget", [1, FEW, MANY])
def test_they_are_what_the_dense_computation_gives(budget: int) -> None:
    ours, head, theirs, other = rows()
    found = row_statistics(head, ours, ALL, V, budget, Distribution(theirs, other))
    for name, expected in dense(head(ours), other(theirs)).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


def test_by_hand() -> None:
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2).

    KL(q ‖ p) = ¼ ln ½ + ¼ ln 1 + ½ ln 2 = ¼ ln 2; Σp² = ¼ + 2/16 = 3/8;
    entropy of p = ½ ln 2 + ½ ln 4 = 1.5 ln 2.
    """
    p = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    q = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).log()
    found = row_statistics(lambda x: x, p, ALL, 3, MANY, Distribution(q, lambda x: x))
    ln2 = float(torch.log(torch.tensor(2.0, dtype=torch.float64)))
    assert float(found["kl"]) == pytest.approx(0.25 * ln2, rel=1e-12)
    assert float(found["log_sum_p2"].exp()) == pytest.approx(3 / 8, rel=1e-12)
    assert float(found["entropy"]) == pytest.approx(1.5 * ln2, rel=1e-12)


@pytest.mark.parametrize("budget", [1, FEW, MANY])
def test_the_gradient_of_the_kl_is_autograds(budget: int) -> None:
    """In the hidden states and in the head's weight; the other side has none."""
    ours, head, theirs, other = rows()
    theirs.requires_grad_()
    weight = torch.linspace(-1, 2, H, dtype=torch.float64)
    found = row_statistics(head, ours, ("kl",), V, budget, Distribution(theirs, other))["kl"]
    wanted = [ours, head.weight]
    gradients = torch.autograd.grad((found * weight).sum(), wanted, retain_graph=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(found.sum(), [theirs, other.weight])
    expected = (dense(head(ours), other(theirs))["kl"] * weight).sum()
    for one, same in zip(gradients, torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(one, same, rtol=1e-10, atol=1e-12)


def test_the_others_have_no_gradient() -> None:
    ours, head, _, _ = rows()
    found = row_statistics(head, ours, ("log_sum_p2", "entropy"), V, MANY)
    assert not any(value.requires_grad for value in found.values())


def test_no_more_rows_than_the_budget_reach_the_head_and_none_are_kept() -> None:
    ours, head, theirs, other = rows()
    seen: list[int] = []

    def counting(hidden: Tensor) -> Tensor:
        seen.append(len(hidden))
        return head(hidden)  # type: ignore[no-any-return]

    kept: list[int] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        found = row_statistics(counting, ours, ("kl",), V, FEW, Distribution(theirs, other))["kl"]
    assert seen == [3, 3, 3, 2]
    assert max(kept, default=0) < 2 * V, "logits wait for the backward pass"
    found.sum().backward()
    assert sorted(seen[4:]) == [2, 3, 3, 3]


def test_bf16_logits_are_summed_in_fp32() -> None:
    ours, head, theirs, other = rows(torch.bfloat16)
    found = row_statistics(head, ours, ALL, V, MANY, Distribution(theirs, other))
    exact = dense(head(ours).double(), other(theirs).double())
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact[name], rtol=1e-5, atol=1e-5)


def dense_by_token(model: Any, other: Any, branches: list[Branch]) -> dict[str, Tensor]:
    """The statistics at every supervised token, each branch computed by itself."""
    found: dict[str, list[Tensor]] = {name: [] for name in ALL}
    for branch in branches:
        ids = torch.tensor([branch.ids])
        at = [t - 1 for t, on in enumerate(branch.mask) if on]
        logits = [
            one(input_ids=ids, use_cache=False).logits[0, at].double() for one in (model, other)
        ]
        for name, value in dense(*logits).items():
            found[name].append(value)
    return {name: torch.cat(values) for name, values in found.items()}


@pytest.mark.parametrize("layout", ["tree", "plain"])
@pytest.mark.parametrize("budget", [4 * 4 * 272 * 2, MANY])
def test_through_the_policy_in_both_layouts(layout: Layout, budget: int) -> None:
    branches = random_branches(3)
    forest = build_forest(branches, share=layout == "tree", min_shared=1)
    assert forest.shared == (layout == "tree")
    policies = [Policy(tiny_model(seed=s), layout=layout, logits_budget=budget) for s in (0, 1)]
    with torch.no_grad():
        theirs = policies[1](forest, Ask(hidden=True))
        against = policies[1].distribution(theirs.hidden_HD)
        found = policies[0](forest, Ask(statistics=ALL, against=against))
        expected = dense_by_token(tiny_model(seed=0), tiny_model(seed=1), branches)
        for name, value in found.statistics.items():
            torch.testing.assert_close(value.double(), expected[name], rtol=2e-4, atol=2e-4)
        # what was asked for besides changes nothing about the log-probs
        torch.testing.assert_close(found.token_logps_N, policies[0](forest).token_logps_N)
        torch.testing.assert_close(
            found.token_logps_N, plain_logps(tiny_model(seed=0), branches), rtol=1e-4, atol=1e-4
        )
    assert found.hidden_HD is None
    assert set(found.statistics) == set(ALL)


def test_both_layouts_give_the_same_gradient() -> None:
    branches = random_branches(5)
    gradients = []
    for layout in ("tree", "plain"):
        forest = build_forest(branches, share=layout == "tree", min_shared=1)
        model, frozen = tiny_model(seed=0), tiny_model(seed=1).requires_grad_(False)
        policy, other = Policy(model, layout=layout), Policy(frozen, layout=layout)  # type: ignore[arg-type]
        with torch.no_grad():
            against = other.distribution(other(forest, Ask(hidden=True)).hidden_HD)
        out = policy(forest, Ask(statistics=("kl",), against=against))
        weight_B = torch.linspace(-1, 2, forest.branches, dtype=torch.float64)
        (out.sums_B(out.statistics["kl"]) * weight_B).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=2e-5 * scale)


def one_pair() -> tuple[MicroBatch, Rendered]:
    prompt = list(range(20, 40))
    branches = tuple(
        Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for answer in ([50, 51, 52, 53], [60, 61, 62])
    )
    forest = build_forest(branches, min_shared=1)
    return MicroBatch(forest, rows=(0,), places=(0,)), Rendered("0", len(prompt), branches)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_references_head_is_called_under_its_switch(precision: str) -> None:
    """An adapted head: its adapter is off for the reference, also in the backward pass."""
    model = tiny_model("qwen3")  # whose head is not tied
    adapted = attach(model, AdapterConfig(targets=["q_proj", "lm_head"], rank=4), seed=0)
    to_compute(model, precision)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    policy = Policy(model, precision=precision)  # type: ignore[arg-type]
    entered: list[int] = []

    @contextmanager
    def switch() -> Iterator[None]:
        entered.append(1)
        with adapters_off(adapted):
            yield

    micro, rendered = one_pair()
    reference_N, against = LiveReference(policy, switch).distribution(micro)
    out = policy(micro.forest, Ask(statistics=("kl",), against=against))
    called = len(entered)
    assert called >= 2, "once for the body, once for the head"
    out.statistics["kl"].sum().backward()
    assert len(entered) > called, "the logits are computed again"
    tolerance = {"fp32": 2e-4, "bf16": 0.15}[precision]
    branches = list(rendered.branches)
    expected = dense_by_token(_merged(model), tiny_model("qwen3"), branches)["kl"]
    assert float(expected.detach().min()) > 0.01, "the adapter changes something"
    torch.testing.assert_close(
        out.statistics["kl"].double(), expected, rtol=tolerance, atol=tolerance
    )
    plain_N = plain_logps(tiny_model("qwen3"), branches)
    torch.testing.assert_close(reference_N, plain_N, rtol=tolerance, atol=tolerance)
    head = model.get_output_embeddings()
    assert head.lora_B["default"].weight.grad is not None
    assert all(p.requires_grad for n, p in model.named_parameters() if "lora_" in n)


def _merged(adapted: Any) -> Any:
    """A plain model with the adapters' products added to its weights."""
    model = tiny_model("qwen3")
    with torch.no_grad():
        for name, layer in adapted.named_modules():
            if hasattr(layer, "lora_A"):
                model.get_parameter(f"{name}.weight").add_(layer.get_delta_weight("default"))
    return model
