from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.model.native.needs import needs_native
from tests.tiny import tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from palate.config import AdapterConfig
from palate.model.adapters import as_reference, attach, trainable
from palate.model.fused import fuse
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.tokens.tree import Branch, Forest, build_forest

pytestmark = needs_native

SHAPE: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True, attention_bias=True),
    "mistral": MistralConfig(**SHAPE, head_dim=32, sliding_window=20),
    "qwen2": Qwen2Config(**SHAPE),
}


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[family]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.5)
            elif parameter.ndim > 1:
                parameter.mul_(3.0)
    return model.eval()


def forest() -> Forest:
    draw = torch.Generator().manual_seed(5)

    def tokens(count: int) -> list[int]:
        return torch.randint(0, 272, (count,), generator=draw).tolist()

    shared, branches = tokens(30), []
    for _ in range(2):
        prompt = shared + tokens(12)
        for size in (9, 14):
            mask = [False] * 42 + [True] * size
            branches += [Branch(prompt + tokens(size), mask)]
    return build_forest(branches)


def policy_of(family: str, kind: str, precision: Any, *, short: bool) -> tuple[Policy, Any]:
    model = model_of(family)
    adapted = attach(model, AdapterConfig(kind=kind, rank=4), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    to_compute(model, precision)
    if short:
        assert fuse(model) == 2
    return Policy(model, precision=precision), adapted


def results(policy: Policy) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs, and the gradient of a margin for every trained weight."""
    out = policy(forest())
    sums = out.sums_B()
    (sums[0] - sums[1] + 0.5 * sums[2] - 0.3 * sums[3]).backward()
    grads = {}
    for name, weight in trainable(policy).items():
        assert weight.grad is not None, name
        grads[name] = weight.grad
    return out.token_logps_N.detach(), grads


def distance(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    off = sum(float((found[n] - g).square().sum()) for n, g in exact.items())
    return (off / sum(float(g.square().sum()) for g in exact.values())) ** 0.5


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_it_is_as_close_to_fp32_as_the_layers_of_transformers(family: str, kind: str) -> None:
    exact_N, exact = results(policy_of(family, kind, "fp32", short=False)[0])
    usual_N, usual = results(policy_of(family, kind, "bf16", short=False)[0])
    found_N, found = results(policy_of(family, kind, "bf16", short=True)[0])
    assert set(found) == set(exact)
    assert (found_N - exact_N).norm() <= 1.3 * (usual_N - exact_N).norm()
    assert distance(found, exact) <= 1.3 * distance(usual, exact)


def test_adapters_off_is_the_base_bit_for_bit() -> None:
    policy, adapted = policy_of("llama", "lora", "bf16", short=True)
    base = model_of("llama")
    base.requires_grad_(False)
    to_compute(base, "bf16")
    assert fuse(base) == 2
    with torch.no_grad(), as_reference(adapted):
        off = policy(forest()).token_logps_N
    with torch.no_grad():
        alone = Policy(base, precision="bf16")(forest()).token_logps_N
        on = policy(forest()).token_logps_N
    assert torch.equal(off, alone)
    assert not torch.equal(off, on)


def test_frozen_weights_keep_their_bits_and_names() -> None:
    model = model_of("llama").requires_grad_(False)
    to_compute(model, "bf16")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fuse(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_calls_without_a_forest_and_in_fp32_run_as_transformers_wrote_them() -> None:
    model, untouched = model_of("llama"), model_of("llama")
    fuse(model)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, untouched(input_ids=ids).logits)
        fused = Policy(model)(forest()).token_logps_N
        assert torch.equal(fused, Policy(untouched)(forest()).token_logps_N)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "llama"])
def test_other_layers_and_widths_that_do_not_fit_are_left_alone(family: str) -> None:
    assert fuse(tiny_model(family)) == 0  # the tiny llama has heads of 8


def test_only_some_projections_may_be_adapted() -> None:
    model = model_of("qwen2")
    attach(model, AdapterConfig(rank=4, targets=["q_proj", "v_proj", "down_proj"]), 0)
    to_compute(model, "bf16")
    assert fuse(model) == 2
    _, grads = results(Policy(model, precision="bf16"))
    assert {name.split(".")[-4] for name in grads} >= {"q_proj", "v_proj", "down_proj"}
    assert len(grads) == 2 * 3 * 2
