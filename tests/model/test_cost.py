from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_config, tiny_model

from palate.config import AdapterConfig
from palate.model import cost
from palate.model.adapters import attach
from palate.model.cost import Anatomy, Work
from palate.model.peak import measure_peak
from palate.tokens.divide import Price
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler
from palate.tokens.tree import Branch, build_forest

SMALL = Anatomy(
    parameters=1000,
    body=600,
    vocabulary=10,
    width=8,
    tied=True,
    layers=2,
    attention=8,
    keys=4,
    inner=16,
)


def pair(prompt: int, chosen: int, rejected: int) -> Rendered:
    """A pair with so many tokens; prompts share their tokens, answers differ at once."""
    start = list(range(100, 100 + prompt))
    branches = tuple(
        Branch(start + [first] * length, [False] * prompt + [True] * length)
        for first, length in ((1, chosen), (2, rejected))
    )
    return Rendered("id", prompt, branches)


def test_anatomy_of_a_llama() -> None:
    # Width 32, 4 heads of 8, 2 key-value heads, inner 64, 2 layers, vocabulary 272, tied.
    # A layer's matrices: q and o 32·32 each, k and v 32·16 each, gate, up and down 32·64 each:
    # 2·1024 + 2·512 + 3·2048 = 9216; norms 2·32 a layer and 32 at the end.
    found = cost.anatomy_of(tiny_config("llama"))
    assert found.body == 2 * 9216
    assert found.head == 272 * 32
    assert found.tied
    assert found.parameters == 2 * (9216 + 64) + 32 + 272 * 32
    assert (found.layers, found.attention, found.keys, found.inner) == (2, 32, 16, 64)
    assert len(found.matrices) == 14


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("targets", ["all-linear", "q_proj", ["v_proj", "c_attn"]])
def test_adapter_weights_are_what_peft_makes(family: str, targets: str | list[str]) -> None:
    config = AdapterConfig(rank=3, targets=targets if targets != "q_proj" else r".*\.q_proj")
    found = cost.anatomy_of(tiny_config(family)).adapter(config)
    if found == 0:
        pytest.skip("this family has no such layer")
    model = tiny_model(family)
    attach(model, config, 0)
    assert found == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_parameters_are_those_of_the_model(family: str) -> None:
    expected = sum(p.numel() for p in tiny_model(family).parameters())
    assert cost.anatomy_of(tiny_config(family)).parameters == expected


def test_work_of_one_pair() -> None:
    # A prompt of 10 and answers of 3 and 2. The root's pairs are 10·11/2 = 55, the answers'
    # 3·10 + 3·4/2 = 36 and 2·10 + 2·3/2 = 23. The head scores
    # the prompt's last position (once for both), then 2 and 1 more.
    work = cost.work_of(build_forest(pair(10, 3, 2).branches))
    assert work == Work(unique=15, scored=4, pairs=114, computed=15, path=25, padded=26)


def test_work_without_sharing() -> None:
    # Branches of 13 and 12 tokens by themselves: 13·14/2 + 12·13/2 = 91 + 78.
    work = cost.work_of(build_forest(pair(10, 3, 2).branches, share=False), share=False)
    assert work == Work(unique=25, scored=5, pairs=169, computed=26, path=25, padded=26)


def test_flops_by_the_formula() -> None:
    # 2·600·100 + 2·80·10 + 4·2·8·50 = 120 000 + 1 600 + 3 200
    work = Work(unique=100, scored=10, pairs=50)
    assert cost.forward_flops(SMALL, work) == 124_800
    assert cost.training_flops(SMALL, work, lora=True) == 249_600
    assert cost.training_flops(SMALL, work, lora=False) == 374_400


def test_a_run_counts_every_example_of_every_epoch() -> None:
    # Three pairs of 15 unique tokens that share their prompt of 10 and differ in nothing else:
    # two in one micro-batch hold the same tokens. Batches of 1 make 3 steps an epoch.
    examples = [pair(10, 3, 2)] * 3
    sampler = Sampler(3, 1, seed=0)
    found = cost.run_work(examples, sampler, 6, 1000, share=True)
    assert found.steps == 6
    assert found.total.unique == pytest.approx(6 * 15)
    assert found.total.padded == pytest.approx(6 * 26)
    assert found.epoch.path == pytest.approx(3 * 25)
    assert found.largest.unique == 15
    plain = cost.run_work(examples, sampler, 6, 1000, share=False)
    assert plain.total.unique == pytest.approx(6 * 25)


def test_a_long_run_is_scaled_up_from_some_of_its_steps() -> None:
    found = cost.run_work([pair(10, 3, 2)], Sampler(1, 1, seed=0), 1234, 1000, share=True)
    assert found.total.unique == pytest.approx(1234 * 15)


def test_the_cut_bounds_the_largest_micro_batch() -> None:
    examples = [pair(20, 5, 5), pair(10, 3, 2)]
    found = cost.run_work(examples, Sampler(2, 2, seed=0), 1, 30, share=True)
    assert found.largest.unique == 30
    assert found.total.unique == 45


def test_the_peak_is_a_plausible_number() -> None:
    assert 1e7 < measure_peak(torch.float32, budget=0.05) < 1e15


def test_the_price_of_a_loaded_model_by_hand() -> None:
    """A layer has 32·(32 + 16 + 16 + 32) of attention and 3·32·64, 9216 in all; there are two.

    LoRA of rank 4 adds 4·(inputs + outputs) of each: 4·(64 + 48 + 48 + 64 + 3·96) = 2048 a layer.
    """
    model = tiny_model()
    assert cost.price_of(model) == Price(2 * 2 * 9216, 2 * 272 * 32, 4 * 2 * 32)
    attach(model, AdapterConfig(kind="lora", rank=4), seed=0)
    assert cost.price_of(model).token == 2 * 2 * (9216 + 2048)
