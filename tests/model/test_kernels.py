from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.kernel_doubles import random_forest, use_doubles
from tests.tiny import tiny_config, tiny_model
from torch import Tensor
from transformers import Gemma2Config, GptOssConfig, MistralConfig

from palate.model import kernels
from palate.model.attention import tree_attention
from palate.model.flex import flex_tree_attention
from palate.model.kernels import KERNELS, TILED, Heads, check, choose, heads_of, kernel_named
from palate.model.policy import Policy

FLEX = flex_tree_attention
CPU = torch.device("cpu")
PLAIN = Heads(queries=4, keys=2, width=16)
WINDOWED = Heads(queries=4, keys=2, width=16, windows=(None, 12))


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_doubles(monkeypatch)


def shifted(by: int) -> Any:
    """A kernel whose causal edge, or window, is off: a later or an earlier key is the last."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        return FLEX(q, k.roll(by, 2), v.roll(by, 2), *rest)

    return kernel


def narrow(
    q: Tensor, k: Tensor, v: Tensor, forest: Any, scale: float, window: Any, *rest: Any
) -> Tensor:
    """A kernel that takes a window of w keys for one of w keys beside the query's own."""
    wider = None if window is None else window + 1
    return FLEX(q, k, v, forest, scale, wider, *rest)


def leaking(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    out = FLEX(q, k, v, *rest)
    return out + 1e-6 * k.mean()


def careless(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    """Exact forward; the keys' gradient is lost."""
    return FLEX(q, k.detach() + 0 * k, v, *rest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["varlen", "flex"])
@pytest.mark.parametrize("heads", [PLAIN, WINDOWED], ids=["plain", "windowed"])
def test_exact_kernels_pass(name: str, dtype: torch.dtype, heads: Heads) -> None:
    if name == "varlen" and dtype == torch.float32:
        assert check(KERNELS[name], heads, CPU, dtype) == "it does not take these heads"
    elif name == "varlen" or dtype == torch.float32:  # flex written out rounds its scores to bf16
        assert check(KERNELS[name], heads, CPU, dtype) is None


def test_caps_and_sinks_are_checked_too() -> None:
    capped = Heads(queries=4, keys=4, width=16, softcap=2.0, sinks=True)
    assert check(FLEX, capped, CPU, torch.float32) is None

    def uncapped(*args: Any) -> Any:
        return FLEX(*args[:6], None, args[7])

    assert "off by" in str(check(uncapped, capped, CPU, torch.float32))
    assert check(KERNELS["varlen"], capped, CPU, torch.bfloat16) == "it does not take these heads"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (shifted(1), "output off by"),
        (narrow, "output off by"),
        (leaking, "a branch sees its sibling"),
        (careless, "key gradient off by"),
    ],
)
def test_wrong_kernels_are_refused(wrong: Any, why: str) -> None:
    assert why in str(check(wrong, WINDOWED, CPU, torch.float32))


def test_a_kernel_that_raises_is_refused_with_its_first_line() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel image\nand much more")

    assert check(broken, PLAIN, CPU, torch.float32) == "RuntimeError: no kernel image"


def test_the_fastest_of_the_exact_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: dict[Any, float] = {None: 3.0, FLEX: 2.0, KERNELS["varlen"]: 1.0}
    monkeypatch.setattr(kernels, "_time", lambda kernel, *_: seconds[kernel])
    found = choose(PLAIN, CPU, torch.float32, ("varlen", "flex"))
    assert found.name == "flex"
    assert found.reason == (
        "tiled 3000.00 ms, flex 2000.00 ms; refused: varlen: it does not take these heads"
    )
    assert not found.warning
    seconds[None] = 0.5
    assert choose(PLAIN, CPU, torch.float32, ("flex",)).name == TILED


def test_when_none_is_exact_the_tiled_form_is_taken_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KERNELS, "flex", leaking)
    found = choose(PLAIN, CPU, torch.float32, ("flex",))
    assert found.name == TILED
    assert "falls back to tiled (flex: a branch sees its sibling)" in found.warning


def test_timing_runs_every_kernel() -> None:
    found = choose(Heads(2, 2, 8), CPU, torch.float32, ("flex",))
    assert "tiled" in found.reason
    assert "flex" in found.reason


def test_on_a_cpu_nothing_is_tried() -> None:
    assert choose(PLAIN, CPU, torch.float32).reason == "the only one on cpu"
    assert kernel_named(TILED) is None


def test_the_heads_of_a_config() -> None:
    assert heads_of(tiny_config("llama")) == Heads(4, 2, 8)
    gemma = heads_of(Gemma2Config(num_hidden_layers=2, sliding_window=64))
    assert set(gemma.windows) == {None, 64}
    assert gemma.softcap == 50.0
    assert heads_of(MistralConfig(sliding_window=32)).windows == (None, 32)
    assert heads_of(GptOssConfig(num_hidden_layers=2)).sinks


@pytest.mark.parametrize("name", ["varlen", "flex"])
def test_a_policy_hands_its_kernel_to_every_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    whole = KERNELS[name]

    def counted(q: Tensor, *rest: Any) -> Any:
        calls.append(rest)
        return whole(q, *rest)

    monkeypatch.setitem(KERNELS, name, counted)
    forest = random_forest(2)
    model = tiny_model()
    expected = Policy(model)(forest)
    found = Policy(model, kernel=kernel_named(name))(random_forest(2))
    assert len(calls) == 2
    assert torch.allclose(found.token_logps_N, expected.token_logps_N, atol=1e-5)


def test_a_kernel_that_cannot_leaves_it_to_the_tiled_form() -> None:
    forest = random_forest(0)
    q, k, v = torch.randn(3, 1, 2, forest.unique_tokens, 8)
    module = torch.nn.Module()
    out, _ = tree_attention(module, q, k, v, None, forest=forest, kernel=lambda *_: None)
    own, _ = tree_attention(module, q, k, v, None, forest=forest)
    assert torch.equal(out, own)
