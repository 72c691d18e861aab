"""The speed of a training step: its operations by hand, over the best time on a clock of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.families import FAMILIES, random_model
from tests.tiny import tiny_config

from palate.config import AdapterConfig
from palate.model import speed
from palate.model.cost import Anatomy, anatomy_of
from palate.model.policy import Policy
from palate.model.speed import measure_speed
from palate.tokens.tree import Branch

# A prompt of 64 and answers of 2 and 1: 67 tokens as a tree, of which 2 reach the head (the
# prompt's last, and the longer answer's first; the last of an answer predicts nothing).
PROMPT = list(range(64))
BRANCHES = [
    Branch([*PROMPT, 5, 6], [False] * 64 + [True] * 2),
    Branch([*PROMPT, 7], [False] * 64 + [True]),
]
# A layer of the tiny Llama has 32·(32 + 16 + 16 + 32) + 3·32·64 weights, the head 272·32. Causal
# pairs: 64·65/2 of the prompt, 2·64 + 3 and 64 + 1 of the answers; 4·2 layers·32 operations each.
FORWARD = 2 * 2 * 9216 * 67 + 2 * 272 * 32 * 2 + 4 * 2 * 32 * (2080 + 131 + 65)
# As rows of 66 and 65: 131 tokens, 2 + 1 to the head, 66·67/2 + 65·66/2 pairs.
ROWS = 2 * 2 * 9216 * 131 + 2 * 272 * 32 * 3 + 4 * 2 * 32 * (2211 + 2145)

Clock = Callable[..., Callable[[], float]]


@pytest.fixture
def anatomy() -> Anatomy:
    return anatomy_of(tiny_config("llama"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Lets each step take the next of so many seconds."""
    now, steps = [0.0], [0]

    def plan(*seconds: float) -> Callable[[], float]:
        real = Policy.forward

        def forward(self: Policy, *args: object) -> object:
            now[0] += seconds[steps[0]]
            steps[0] += 1
            return real(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Policy, "forward", forward)
        return lambda: now[0]

    return plan


def test_operations_over_the_best_time(anatomy: Anatomy, clock: Clock) -> None:
    """The first step, which compiles, is not one of the three."""
    taken = clock(0.25, 4, 2, 3)
    assert measure_speed(anatomy, BRANCHES, "fp32", clock=taken) == pytest.approx(3 * FORWARD / 2)


def test_an_adapter_spares_a_third(anatomy: Anatomy, clock: Clock) -> None:
    taken = clock(1, 2, 2, 2)
    lora = AdapterConfig(rank=4)
    found = measure_speed(anatomy, BRANCHES, "fp32", lora=lora, clock=taken)
    assert found == pytest.approx(2 * FORWARD / 2)


def test_rows_compute_the_prompt_again(anatomy: Anatomy, clock: Clock) -> None:
    taken = clock(1, 2, 2, 2)
    found = measure_speed(anatomy, BRANCHES, "bf16", share=False, clock=taken)
    assert found == pytest.approx(3 * ROWS / 2)


def test_a_slow_machine_is_asked_once(anatomy: Anatomy, clock: Clock) -> None:
    taken = clock(1, 10)  # a third step would find no time
    assert measure_speed(anatomy, BRANCHES, "fp32", clock=taken) == pytest.approx(3 * FORWARD / 10)


def test_a_slice_has_the_models_proportions() -> None:
    """SmolLM2's 30 layers of 9 heads, 3 for keys: two of them, and a fifteenth of the words."""
    sizes = Anatomy(134_515_008, 106_168_320, 49_152, 576, True, 30, 576, 192, 1536)
    config = speed._slice(sizes)
    found = anatomy_of(config)
    assert found.body / found.head == pytest.approx(sizes.body / sizes.head, rel=1e-3)
    assert found.vocabulary == 3276
    assert (config.head_dim, config.num_attention_heads, config.num_key_value_heads) == (64, 9, 3)
    assert (found.width, found.attention, found.keys, found.inner) == (576, 576, 192, 1536)


def test_heads_that_are_no_multiple_of_64(anatomy: Anatomy) -> None:
    config = speed._slice(anatomy)  # 32 and 16 wide
    assert (config.head_dim, config.num_attention_heads, config.num_key_value_heads) == (16, 2, 1)


def test_of_a_large_model_one_narrow_layer() -> None:
    """Qwen2.5-32B is 5120 wide: a third of it. Its 8 key heads of 128 are 16 of 64: five of them.

    Each has five queries, and a width of 1706 is no multiple of 25.
    """
    sizes = Anatomy(32_763_876_352, 31_205_621_760, 152_064, 5120, False, 64, 5120, 1024, 27_648)
    config = speed._slice(sizes)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (
        1,
        1700,
        9216,
    )
    assert (config.head_dim, config.num_attention_heads, config.num_key_value_heads) == (64, 25, 5)
    assert config.vocab_size == 152_064 // 64


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_slice(family: str) -> None:
    sizes = anatomy_of(random_model(family, seed=1).config)
    config = speed._slice(sizes)
    assert config.num_attention_heads * config.head_dim == sizes.attention
    assert config.num_key_value_heads * config.head_dim == sizes.keys


def test_what_is_drawn_elsewhere_stays(anatomy: Anatomy) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert measure_speed(anatomy, BRANCHES, "fp32") > 0
    assert torch.equal(torch.rand(3), expected)
