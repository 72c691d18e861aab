"""Memory by arithmetic, and against what autograd really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.native.needs import needs_native
from tests.model.test_cost import SMALL
from transformers import AutoModelForCausalLM, LlamaConfig

from palate.config import AdapterConfig
from palate.model import memory as room
from palate.model.adapters import attach
from palate.model.cost import Anatomy, Matrix, Work, anatomy_of, work_of
from palate.model.fused import fuse
from palate.model.head import LOGITS_BUDGET
from palate.model.load import to_compute
from palate.model.memory import activations, memory
from palate.model.policy import Policy
from palate.tokens.tree import Branch, build_forest


def test_activations_by_the_formula() -> None:
    # D = a = 8, k = 4, I = 16, two layers, 10 tokens. fp32, full: 16·8 + 4·(2·8 + 16 + 8 + 64)
    # = 128 + 416 = 544 bytes; 2·10·544.
    work = Work(unique=9, computed=10)
    assert activations(SMALL, work, "fp32", lora=False) == 10_880
    # bf16, adapter: 8·8 + 2·(5·8 + 16 + 8 + 64) = 64 + 256 = 320
    assert activations(SMALL, work, "bf16", lora=True) == 6_400


def llama(layers: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def kept(model: Any, precision: Any, layout: Any) -> tuple[int, Work]:
    """Bytes that autograd keeps of a forward pass, weights and their copies left out."""
    policy = Policy(model, layout=layout, precision=precision)
    share = layout == "tree"
    trunk, answer = list(range(60)), list(range(100, 130))
    ids = [[*trunk, *[200 + i] * 10, *answer[k:]] for i in range(4) for k in (0, 1)]
    branches = [Branch(path, [False] * 70 + [True] * (len(path) - 70)) for path in ids]
    forest = build_forest(branches, share=share)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {p.shape for p in model.parameters()}
    shapes |= {p.mT.shape for p in model.parameters() if p.ndim == 2}
    found: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights and tensor.shape not in shapes:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = policy(forest)
    total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    assert out.token_logps_N.requires_grad
    return total, work_of(forest, share=share)


@pytest.mark.parametrize("layout", ["tree", "plain"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_activations_are_what_autograd_keeps(kind: Any, precision: Any, layout: Any) -> None:
    """Per layer, so that embedding and head fall out: three layers less one.

    Padded rows also keep a mask, and keys and values once for every query head.
    """
    if layout == "tree":
        pytest.importorskip("palate.model.tiles", reason="the formula counts this attention")
    adapter = AdapterConfig(kind=kind, rank=1)
    sizes = []
    for layers in (1, 3):
        model = llama(layers)
        attach(model, adapter, 0)
        to_compute(model, precision)
        sizes.append(kept(model, precision, layout))
    (one, work), (three, _) = sizes
    model = llama(2)
    expected = activations(anatomy_of(model.config), work, precision, lora=kind == "lora")
    assert three - one == pytest.approx(expected, rel=0.03 if layout == "tree" else 0.12)


@needs_native
def test_fused_layers_keep_what_the_formula_says() -> None:
    models = {}
    for layers in (1, 3):
        model = llama(layers)
        attach(model, AdapterConfig(rank=2), 0)
        to_compute(model, "bf16")
        assert fuse(model) == layers
        models[layers] = kept(model, "bf16", "tree")
    work = models[1][1]
    expected = activations(anatomy_of(llama(2).config), work, "bf16", lora=True, fused=True)
    assert models[3][0] - models[1][0] == pytest.approx(expected, rel=0.05)


def test_a_fused_head_keeps_no_logits() -> None:
    # 5 rows of 8 in fp32, three times; the matrix [10, 8] turned, in bf16; its gradient in fp32.
    work = Work(scored=5)
    lora = memory(SMALL, work, AdapterConfig(), "bf16", live_reference=False, fused=True)
    assert lora.logits == 4 * 3 * 5 * 8 + 2 * 80
    full = AdapterConfig(kind="full")
    trained = memory(SMALL, work, full, "bf16", live_reference=False, fused=True)
    assert trained.logits == lora.logits + 4 * 80


def test_memory_of_lora_in_bf16() -> None:
    # Frozen: 1000 − 600 weights stay fp32 (the head is tied to the embedding), and the body and
    # a copy of the head are bf16: 2·(600 + 80). LoRA of rank 2 on one 8×16 layer: 48 weights,
    # each 4 + 4 + 8 bytes.
    sizes = Anatomy(1000, 600, 10, 8, True, 2, 8, 4, 16, (Matrix("layers.0.q", 8, 16),))
    adapter = AdapterConfig(rank=2)
    found = memory(sizes, Work(scored=5), adapter, "bf16", live_reference=True)
    assert (found.weights, found.copies, found.trained) == (1600, 1360, 768)
    assert found.reference == 0, "with adapters off the policy is its own reference"
    assert found.logits == room.LOGITS_COPIES * 4 * 5 * 10
    assert found.last == 4000
    counted = room.PROGRAM + 1600 + 1360 + 768 + 4000
    assert found.total == int(room.ALLOWANCE * counted) + 4000, "merged into a mapped fp32 file"


def test_memory_of_full_training() -> None:
    full = AdapterConfig(kind="full")
    found = memory(SMALL, Work(), full, "fp32", live_reference=False)
    assert (found.weights, found.copies, found.trained) == (4000, 0, 12_000)
    assert found.last == 8000, "both moments on their way into a checkpoint"
    assert found.reference == 0
    live = memory(SMALL, Work(), full, "bf16", live_reference=True)
    assert live.copies == 1360
    assert live.reference == 1600 + 1360


def test_a_reference_that_moves_is_a_second_model_and_its_masters() -> None:
    # fp32: 4000 bytes each for the model and, of full training, for the fp32 means.
    full = AdapterConfig(kind="full")
    found = memory(SMALL, Work(), full, "fp32", live_reference=True, moving=True)
    assert found.reference == 4000 + 4000
    # Adapted, in bf16: 1600 + 1360 for the model as above, and of the one 8×16 matrix that has an
    # adapter the mean and what the adapter adds to, 2·4·128 bytes.
    sizes = Anatomy(1000, 600, 10, 8, True, 2, 8, 4, 16, (Matrix("layers.0.q", 8, 16),))
    lora = AdapterConfig(rank=2)
    found = memory(sizes, Work(), lora, "bf16", live_reference=True, moving=True)
    assert found.reference == 2960 + 1024


def test_logits_never_exceed_their_budget() -> None:
    found = memory(SMALL, Work(scored=10**9), AdapterConfig(), "fp32", live_reference=False)
    assert found.logits == room.LOGITS_COPIES * LOGITS_BUDGET


def test_an_untied_head_is_frozen_in_bf16_too() -> None:
    untied = Anatomy(1000, 600, 10, 8, False, 2, 8, 4, 16)
    found = memory(untied, Work(), AdapterConfig(), "bf16", live_reference=False)
    assert found.weights == 4 * (1000 - 600 - 80)


def test_a_base_in_4_bits() -> None:
    # Half a byte, 1/64 and 4/(64·256) of one for each of the 600 weights of the body: 309 bytes,
    # instead of 4 or 2 a weight; the rest as without.
    lora = AdapterConfig(rank=2)
    narrow = memory(SMALL, Work(), lora, "bf16", live_reference=False, in_4_bits=True)
    assert (narrow.weights, narrow.copies) == (1600, 309 + 2 * 80)
    wide = memory(SMALL, Work(), lora, "fp32", live_reference=False, in_4_bits=True)
    assert (wide.weights, wide.copies) == (4 * (1000 - 600), 309)
