"""Layers that round their weight at use: autocast's bits, and none of its copies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.tiny import tiny_config, tiny_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.load import to_compute
from palate.model.policy import Layout, Policy
from palate.model.rounded import round_at_use
from palate.tokens.tree import Branch, build_forest
from palate.train.shard import shard

TRUNK = list(range(30, 50))
PATHS = [[*TRUNK, *range(60, 70)], [*TRUNK, *range(80, 95)], list(range(100, 112))]
LAYERS, MATRICES = 2, 7  # of the tiny model, and linear layers in each


def biased() -> Any:
    """The tiny Llama with a bias on each of its linear layers, all of them random."""
    config = tiny_config("llama")
    config.attention_bias = config.mlp_bias = True
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def loss_of(policy: Policy) -> Tensor:
    branches = [Branch(path, [False] * 10 + [True] * (len(path) - 10)) for path in PATHS]
    forest = build_forest(branches, share=policy.layout == "tree")
    return policy(forest).token_logps_N.square().mean()


def held_by(policy: Policy) -> tuple[Tensor, list[Tensor]]:
    """The loss, and what autograd holds until its backward pass."""
    found: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(policy)
    return loss, found


def kept(policy: Policy) -> list[Tensor]:
    """What autograd holds after a forward pass."""
    return held_by(policy)[1]


def shapes_of(policy: Policy) -> set[tuple[int, ...]]:
    """Of the layers' matrices, either way round."""
    linear = [m for m in policy.model.get_decoder().modules() if isinstance(m, nn.Linear)]
    return {tuple(m.weight.shape) for m in linear} | {tuple(m.weight.mT.shape) for m in linear}


def narrow_weights(policy: Policy) -> int:
    """How many rounded copies of the layers' matrices are among what is kept."""
    shapes = shapes_of(policy)
    narrow = [t for t in kept(policy) if t.dtype == torch.bfloat16]
    return sum(t.shape in shapes for t in narrow)


@pytest.mark.parametrize("layout", ["tree", "plain"])
@pytest.mark.parametrize("make", [tiny_model, biased])
def test_loss_and_gradients_have_autocasts_bits(make: Any, layout: Layout) -> None:
    theirs = Policy(make(), layout=layout, precision="bf16")
    ours = copy.deepcopy(theirs)
    assert round_at_use(ours.model) == LAYERS * MATRICES
    losses = [loss_of(policy) for policy in (theirs, ours)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert a.grad is not None, name
        assert a.grad.abs().sum() > 0, name
        assert b.grad is not None, name
        assert torch.equal(a.grad, b.grad), name


def test_no_rounded_weight_outlives_its_forward() -> None:
    """Of two layers autocast leaves fourteen copies of matrices, these none."""
    policy = Policy(tiny_model(), precision="bf16")
    assert narrow_weights(policy) == LAYERS * MATRICES
    round_at_use(policy.model)
    assert narrow_weights(policy) == 0
    layer = policy.model.get_decoder().layers[0].mlp.down_proj
    assert any(t is layer.weight for t in kept(policy)), "the weight itself is what is kept"


def test_without_autocast_and_without_gradients_it_is_the_layers_own() -> None:
    plain = tiny_model()
    ours = copy.deepcopy(plain)
    round_at_use(ours)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(plain(input_ids=ids).logits, ours(input_ids=ids).logits)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain(input_ids=ids).logits, ours(input_ids=ids).logits)


def test_frozen_weights_are_in_bf16_already_and_keep_no_copy() -> None:
    """Beside LoRA only its own small matrices are trained, and only theirs are rounded."""
    model = tiny_model()
    attach(model, AdapterConfig(rank=2), 0)
    to_compute(model, "bf16")
    policy = Policy(model, precision="bf16")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {m.weight.shape for m in model.modules() if isinstance(m, nn.Linear)}
    shapes = {s for s in shapes if 2 not in s} | {s[::-1] for s in shapes if 2 not in s}
    held = [t for t in kept(policy) if t.shape in shapes and t.dtype == torch.bfloat16]
    assert held, "the frozen matrices are what a backward pass needs"
    assert all(t.untyped_storage().data_ptr() in weights for t in held)


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_divided_weights_are_freed_between_forward_and_backward(one_rank: None) -> None:
    """Of the layers' matrices nothing is held then, in any form, and the gradients are the same."""
    whole = Policy(tiny_model(), precision="bf16")
    loss_of(whole).backward()
    divided = Policy(tiny_model(), precision="bf16")
    shapes = shapes_of(divided)
    round_at_use(divided.model)
    shard(divided, 1, 1, divided.device, [])
    loss, found = held_by(divided)
    matrices = [tensor for tensor in found if tensor.shape in shapes]
    assert len(matrices) == LAYERS * MATRICES
    assert {tensor.untyped_storage().nbytes() for tensor in matrices} == {0}
    loss.backward()
    gradients = {name: p.grad for name, p in divided.named_parameters()}
    for name, weight in whole.named_parameters():
        assert torch.equal(gradients[name].full_tensor(), weight.grad), name
