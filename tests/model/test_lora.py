from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tests.tiny import tiny_model

from palate.config import AdapterConfig
from palate.model.adapters import adapters_off, attach, trainable
from palate.model.load import to_compute
from palate.model.lora import take_over

IDS = torch.tensor([[1, 2, 3, 4]])


def adapted_by_peft(seed: int) -> Any:
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(tiny_model(), config)


def test_it_equals_pefts_forward_and_gradients() -> None:
    theirs = adapted_by_peft(0)
    ours = copy.deepcopy(theirs)
    assert take_over(ours) == 14, "seven linear layers in each of two blocks"
    out = [model(input_ids=IDS).logits for model in (theirs, ours)]
    assert torch.allclose(out[0], out[1], atol=1e-5)
    for logits in out:
        logits.square().sum().backward()
    for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        if a.requires_grad:
            assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4), name


def test_under_autocast_with_bf16_base_weights_it_is_as_close_as_peft_is() -> None:
    """The path of a default run: against fp32, the lean forward errs no more than peft's."""
    exact = adapted_by_peft(0)
    theirs, ours = copy.deepcopy(exact), copy.deepcopy(exact)
    take_over(ours)
    errors = []
    for model in (theirs, ours):
        to_compute(model.get_base_model(), "bf16")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(input_ids=IDS).logits.float()
        errors.append(float((found - exact(input_ids=IDS).logits).detach().abs().mean()))
    assert errors[1] <= 1.2 * errors[0]


def test_off_is_the_base_and_merging_is_pefts() -> None:
    base = tiny_model()
    plain = copy.deepcopy(base)(input_ids=IDS).logits
    adapted = attach(base, AdapterConfig(rank=4), 0)
    assert adapted is not None
    with torch.no_grad():
        for weight in trainable(base).values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    changed = base(input_ids=IDS).logits
    with adapters_off(adapted):
        assert torch.equal(base(input_ids=IDS).logits, plain)
    assert not torch.allclose(changed, plain, atol=1e-2)
    adapted.merge_adapter()
    assert torch.allclose(base(input_ids=IDS).logits, changed, atol=1e-4)


def test_layers_that_are_not_plain_stay_pefts() -> None:
    dora = LoraConfig(r=4, target_modules="all-linear", use_dora=True)
    assert take_over(get_peft_model(tiny_model(), dora)) == 0
    dropped = tiny_model("gpt2")  # Conv1D, not Linear
    assert take_over(get_peft_model(dropped, LoraConfig(r=4, target_modules="all-linear"))) == 0
