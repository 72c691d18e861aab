"""NF4: what the codes stand for, by hand, and a frozen layer that passes gradients through."""

from __future__ import annotations

import copy
import importlib.util
import sys
from typing import Any

import pytest
import torch
from tests.tiny import tiny_model
from torch import nn

from palate.config import AdapterConfig, ConfigError
from palate.model.adapters import adapters_off, attach, trainable
from palate.model.load import to_compute, weights_hash
from palate.model.nf4 import BYTES_A_WEIGHT, NF4Linear, to_nf4
from palate.model.policy import Policy
from palate.model.probe import probe

IDS = torch.tensor([[1, 2, 3, 4]])
# The sixteen levels of NF4, from appendix E of the paper.
LEVELS = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs palate[quant]"
)


def layer(bias: bool = False) -> tuple[nn.Linear, NF4Linear]:
    torch.manual_seed(0)
    plain = nn.Linear(128, 96, bias=bias)
    return plain, NF4Linear(plain, "cpu")


@needs_bitsandbytes
def test_each_weight_becomes_the_nearest_level_of_its_block() -> None:
    """Blocks of 64 along a row; their magnitudes are kept to 8 bits, which moves them by less
    than a hundredth of the largest here.
    """
    plain, quantised = layer()
    blocks = plain.weight.detach().view(-1, 64)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    table = torch.tensor(LEVELS)
    nearest = table[((blocks / largest)[..., None] - table).abs().argmin(dim=-1)]
    found = quantised.dequantised(torch.float32).view(-1, 64)
    assert (found - nearest * largest).abs().max() <= 0.01 * largest.max()
    scale = found.abs().amax(dim=1, keepdim=True)
    assert torch.allclose(found / scale, nearest, atol=1e-6)


@needs_bitsandbytes
def test_half_a_byte_a_weight() -> None:
    _, quantised = layer()
    held = sum(t.numel() * t.element_size() for t in quantised.state_dict().values())
    levels = 256 * 4 + 4  # the same for every layer, whatever its size
    assert held - levels == pytest.approx(BYTES_A_WEIGHT * 96 * 128, abs=4)


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradient_are_those_of_a_plain_layer(precision: str, bias: bool) -> None:
    plain, quantised = layer(bias)
    plain.weight.data = quantised.dequantised(torch.float32)
    x, y = (torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x, y = x.requires_grad_(), y.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        wanted, found = plain(x), quantised(y)
    assert found.dtype == wanted.dtype
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert torch.allclose(found, wanted, atol=tolerance)
    for out in (wanted, found):
        out.float().square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, y.grad, rtol=tolerance, atol=10 * tolerance)


@needs_bitsandbytes
def test_a_forward_without_gradient_changes_nothing() -> None:
    """bitsandbytes' own layer repacks its weights then, and passes no gradient afterwards."""
    model = tiny_model()
    to_nf4(model, "cpu")
    before = weights_hash(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=IDS)
    assert weights_hash(model) == before
    adapted = attach(model, AdapterConfig(rank=4), 0)
    model(input_ids=IDS).logits.square().sum().backward()
    assert adapted is not None
    assert all(w.grad is not None for w in trainable(adapted).values())


@needs_bitsandbytes
def test_head_and_embedding_keep_their_precision() -> None:
    model = tiny_model("qwen3")  # its head is a matrix of its own
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    count = to_nf4(model, "cpu")
    assert model.lm_head.weight is head
    assert model.model.embed_tokens.weight is embedding
    layers = [m for m in model.modules() if isinstance(m, NF4Linear)]
    assert len(layers) == 14
    assert count == sum(m.in_features * m.out_features for m in layers)
    to_compute(model.requires_grad_(False), "bf16")
    assert {m.weight.dtype for m in layers} == {torch.uint8}
    assert model.lm_head.weight.dtype == torch.bfloat16


@needs_bitsandbytes
def test_the_hash_tells_4_bits_from_the_weights() -> None:
    plain, quantised = tiny_model(), tiny_model()
    to_nf4(quantised, "cpu")
    again = tiny_model()
    to_nf4(again, "cpu")
    assert weights_hash(plain) != weights_hash(quantised) == weights_hash(again)


@needs_bitsandbytes
def test_the_probe_proves_the_tree_on_the_quantised_model() -> None:
    """Outside autocast the layers compute in fp32 with fixed weights: no other tolerance."""
    model = tiny_model()
    to_nf4(model, "cpu")
    found = probe(Policy(model))
    assert found.layout == "tree", found.reason


@needs_bitsandbytes
def test_adapters_lean_on_it_and_off_is_the_quantised_base() -> None:
    base = tiny_model()
    to_nf4(base, "cpu")
    plain = copy.deepcopy(base)(input_ids=IDS).logits
    adapted = attach(base, AdapterConfig(rank=4), 0)
    from palate.model.lora import take_over

    assert take_over(copy.deepcopy(base)) == 14
    with torch.no_grad():
        for weight in trainable(base).values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(base(input_ids=IDS).logits, plain, atol=1e-2)
    with adapters_off(adapted):
        assert torch.equal(base(input_ids=IDS).logits, plain)


@needs_bitsandbytes
def test_a_model_without_plain_linear_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="no plain linear layers"):
        to_nf4(tiny_model("gpt2"), "cpu")


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "bitsandbytes", missing)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", missing)
    with pytest.raises(ConfigError, match=r"pip install 'palate\[quant\]'") as said:
        to_nf4(tiny_model(), "cpu")
    assert "\n" not in str(said.value)
