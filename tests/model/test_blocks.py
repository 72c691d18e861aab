"""Layers that are recomputed, kept on the host, or compiled: the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.kernel_doubles import random_forest
from tests.tiny import tiny_model
from torch import Tensor, nn
from transformers import BloomConfig, BloomForCausalLM

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.blocks import Blocks, decoder_layers
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.tokens.padding import STEP
from palate.tokens.tree import Branch, Forest, build_forest


def policy(
    family: str = "llama", kind: str = "lora", precision: str = "fp32", layout: str = "tree"
) -> Policy:
    model = tiny_model(family)
    attach(model, AdapterConfig(kind=kind, rank=4), 3)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    to_compute(model, precision)  # type: ignore[arg-type]
    return Policy(model, precision=precision, layout=layout).eval()  # type: ignore[arg-type]


def gradients(of: Policy, forest: Forest) -> dict[str, Tensor]:
    of.zero_grad()
    out = of(forest).token_logps_N
    (out * torch.linspace(1, 2, len(out))).sum().backward()
    found = {n: p.grad.clone() for n, p in of.named_parameters() if p.grad is not None}
    return {**found, "logps": out.detach()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_recomputed_gradients_have_the_same_bits(
    family: str, kind: str, precision: str, offload: bool
) -> None:
    forest = random_forest(5, longest=20)
    plain = gradients(policy(family, kind, precision), forest)
    other = policy(family, kind, precision)
    other.blocks = Blocks(other.model, lambda _: True, offload=offload)
    assert same_bits(plain, gradients(other, random_forest(5, longest=20)))


def test_recomputation_keeps_less_and_runs_layers_twice() -> None:
    runs: list[int] = []

    def kept(recompute: bool) -> int:
        one = policy()
        one.blocks = Blocks(one.model, lambda _: recompute)
        layer = decoder_layers(one.model)[1]
        layer.self_attn.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = one(random_forest(1, longest=40)).token_logps_N
        runs.clear()
        out.sum().backward()
        return sum(sizes)

    whole = kept(recompute=False)
    assert not runs
    assert kept(recompute=True) < whole / 2
    assert len(runs) == 1


def test_each_micro_batch_is_decided_by_itself_and_sees_its_own_forest() -> None:
    """Two forward passes before the first backward: the recomputed one must not use the other's."""
    small, large = random_forest(1), random_forest(2, longest=30)
    expected = policy()
    gradients(expected, small)
    (expected(small).token_logps_N.sum() + expected(large).token_logps_N.sum()).backward()
    asked: list[int] = []
    one = policy()

    def needs(forest: Forest) -> bool:
        asked.append(forest.unique_tokens)
        return forest.unique_tokens == large.unique_tokens

    one.blocks = Blocks(one.model, needs)
    gradients(one, small)
    assert not one.blocks.recompute
    first, second = one(small).token_logps_N, one(large).token_logps_N
    assert one.blocks.recompute
    (first.sum() + second.sum()).backward()
    for (name, a), b in zip(expected.named_parameters(), one.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]
    asked.clear()
    with torch.no_grad():
        one(large)
    assert not asked, "without gradient nothing is kept, so nobody asks"


def test_the_padded_layout_is_recomputed_too() -> None:
    branches = [Branch([1, 2, 3, 4 + i], [False, True, True, True]) for i in range(3)]
    forest = build_forest(branches, share=False)
    other = policy(layout="plain")
    other.blocks = Blocks(other.model, lambda _: True)
    assert same_bits(gradients(policy(layout="plain"), forest), gradients(other, forest))


def test_a_layers_input_waits_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer's hidden state goes through `save_on_cpu`, and nothing else does."""
    moved: list[tuple[int, ...]] = []
    theirs = torch.autograd.graph.save_on_cpu.__init__

    def watched(self: Any, pin_memory: bool = False, device_type: str = "cuda") -> None:
        theirs(self, pin_memory, device_type)
        pack = self.pack_hook

        def note(tensor: Tensor) -> Any:
            moved.append(tuple(tensor.shape))
            return pack(tensor)

        self.pack_hook = note

    monkeypatch.setattr(torch.autograd.graph.save_on_cpu, "__init__", watched)
    one = policy()
    one.blocks = Blocks(one.model, lambda _: True, offload=True)
    forest = random_forest(3)
    gradients(one, forest)
    hidden = (1, forest.unique_tokens, 32)
    assert [shape for shape in moved if shape == hidden] == [hidden] * 2
    assert len(moved) <= 4  # torch keeps an empty tensor of its own beside each


def test_a_model_without_a_list_of_layers_is_refused() -> None:
    model = BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=32))
    assert len(decoder_layers(model)) == 2
    model.config.n_layer = 5
    with pytest.raises(ValueError, match=r"no list of 5 decoder layers: use train\.checkpointing"):
        decoder_layers(model)


def test_removed_blocks_leave_the_model_as_it_was() -> None:
    one = policy()
    before = gradients(one, random_forest(0))
    blocks = Blocks(one.model, lambda _: True)
    blocks.remove()
    assert same_bits(before, gradients(one, random_forest(0)))
    assert all("forward" not in vars(layer) for layer in decoder_layers(one.model))


@pytest.fixture
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.suppress_errors = False


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_compiled_layers_give_the_same_gradients(
    kind: str, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, differentiated and cut into graphs as on a GPU; eager code generation, for speed."""
    import functools

    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    real = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(real, backend=counter))
    plain = gradients(policy(kind=kind), random_forest(5, longest=20))
    one = policy(kind=kind)
    one.blocks = Blocks(one.model, lambda _: recompute)
    assert one.blocks.compile(lambda: gradients(one, random_forest(5, longest=20))) is None
    found = gradients(one, random_forest(5, longest=20))
    for name, value in plain.items():
        scale = float(value.abs().max())
        assert float((found[name] - value).abs().max()) <= 1e-5 * scale, name
    graphs = counter.frame_count
    assert graphs > 0
    # another forest of the same bucket, then one of another bucket: compiled for sizes only
    gradients(one, random_forest(6, longest=20))
    assert random_forest(6, longest=20).unique_tokens <= STEP
    assert counter.frame_count == graphs
    gradients(one, random_forest(5, longest=60))
    assert counter.frame_count > graphs


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiler_that_fails_leaves_the_layers_uncompiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler was found\nset CXX")

    monkeypatch.setattr(torch, "compile", lambda forward, **_: broken)
    one = policy()
    one.blocks = Blocks(one.model)
    why = one.blocks.compile(lambda: one(random_forest(0)))
    assert why == "RuntimeError: no C++ compiler was found"
    assert not one.blocks.compiled
    assert same_bits(gradients(policy(), random_forest(0)), gradients(one, random_forest(0)))
