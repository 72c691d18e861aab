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


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        # 5120 is 2.5 times 2048: 27,648 / 2.5 = 11,059 → 11,072; 5120 / 2.5 = 2048; of 1024 / 2.5 =
        # 410 the nearest power is 512; 152,064 / 64 layers / 2.5 = 950.4.
        (
            "Qwen2.5-32B",
            Anatomy(0, 31_205_621_760, 152_064, 5120, False, 64, 5120, 1024, 27_648),
            (1, 2048, 11_072, 32, 8, 950),
        ),
        # 4096 is twice as wide: 14,336 / 2, 32 heads of 64, 8 for keys; 128,256 / 32 / 2 = 2004.
        (
            "Llama-3.1-8B",
            Anatomy(0, 6_979_321_856, 128_256, 4096, False, 32, 4096, 1024, 14_336),
            (1, 2048, 7168, 32, 8, 2004),
        ),
        # One head for keys of 71, 4544 wide: by 2.21875, to 2048, and one of 64.
        (
            "Falcon-7B",
            Anatomy(0, 6_624_411_648, 65_024, 4544, True, 32, 4544, 64, 18_176),
            (1, 2048, 8192, 32, 1, 915),
        ),
    ],
)
def test_of_a_large_model_one_narrow_layer(
    name: str, sizes: Anatomy, expected: tuple[int, ...]
) -> None:
    config = speed._slice(sizes)
    assert config.head_dim == 64
    assert (
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
    ) == expected, name
    # What the head costs beside the body stays, to what rounding costs, and of Falcon that a
    # Llama has three matrices where it has two.
    found = anatomy_of(config)
    share = sizes.vocabulary * sizes.width / sizes.body
    assert found.vocabulary * found.width / found.body == pytest.approx(share, rel=0.3)


def test_large_slices_take_fewer_tokens() -> None:
    """2e11 operations a step, six for each weight and token: a layer of 2048 has 54.5M weights.

    Of them 2·2048² are q and o, 2·2048·512 k and v, and 3·2048·7168 the rest.
    """
    large = Anatomy(0, 6_979_321_856, 128_256, 4096, False, 32, 4096, 1024, 14_336)
    body = 2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 7168
    assert speed.tokens_enough(large) == int(2e11 / (6 * body)) == 611
    small = Anatomy(134_515_008, 106_168_320, 49_152, 576, True, 30, 576, 192, 1536)
    assert speed.tokens_enough(small) == 2048


def test_a_long_example_is_shortened_and_still_shared() -> None:
    """Of 100 tokens at most: the prompt's last 50, and 25 of each answer."""
    prompt = list(range(1000))
    branches = [
        Branch([*prompt, *[7] * 400], [False] * 1000 + [True] * 400),
        Branch([*prompt, *[8] * 10], [False] * 1000 + [True] * 10),
    ]
    first, second = speed.shortened(branches, 100)
    assert list(first.ids) == [*range(950, 1000), *[7] * 25]
    assert list(second.ids) == [*range(950, 1000), *[8] * 10]
    assert (sum(first.mask), sum(second.mask)) == (25, 10)
    text = [Branch(list(range(500)), [False] + [True] * 499)]
    (short,) = speed.shortened(text, 100)
    assert list(short.ids) == list(range(51))


@pytest.mark.parametrize(("enough", "whole"), [(67, True), (66, False)])
def test_what_is_too_long_is_measured_short(
    anatomy: Anatomy, clock: Clock, monkeypatch: pytest.MonkeyPatch, enough: int, whole: bool
) -> None:
    taken = clock(1, 2, 2, 2)
    monkeypatch.setattr(speed, "tokens_enough", lambda sizes: enough)
    found = measure_speed(anatomy, BRANCHES, "fp32", clock=taken)
    assert (found == pytest.approx(3 * FORWARD / 2)) == whole
    assert whole or found < FORWARD


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
