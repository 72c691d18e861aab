"""Adapters: low-rank matrices beside frozen weights, through peft.

The reference of an adapted model is the same model with its adapters off, so one
copy of the weights serves both. A run that goes on from a saved adapter holds it twice:
`default` is trained, and `reference` stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from palate.config import AdapterConfig
from palate.model.foreign import in_one_line, lora_config
from palate.model.lora import take_over
from palate.model.saved_adapter import REFERENCE, read_adapter


def attach(model: Any, config: AdapterConfig, seed: int) -> PeftModel | None:
    """Put LoRA matrices into the model, in place; with `full`, make every weight trainable.

    The second factor starts at 0, so the policy equals its reference; the first is drawn
    from `seed`, whatever was drawn before. With `path` both start from the saved adapter.
    """
    if config.kind == "full":
        model.requires_grad_(True)
        return None
    adapted = _new(model, config, seed) if config.path is None else read_adapter(model, config)
    take_over(adapted)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            assert "lora_" in name, f"only adapters are trained, not {name}"
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return adapted


def _new(model: Any, config: AdapterConfig, seed: int) -> PeftModel:
    targets = config.targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted: PeftModel = get_peft_model(
                model,
                LoraConfig(
                    r=config.rank,
                    lora_alpha=config.alpha,  # type: ignore[arg-type]  # any number will do
                    lora_dropout=config.dropout,
                    target_modules=targets,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise ValueError(f"no LoRA can be put on '{targets}' in this model: {error}") from error
    return adapted


@contextmanager
def as_reference(adapted: PeftModel | None) -> Iterator[None]:
    """Inside, the model is its own reference: the saved adapter, frozen, or no adapter at all.

    Without an adapter nothing changes: the reference is then another model.
    """
    if adapted is None or REFERENCE not in adapted.peft_config:
        with adapters_off(adapted):
            yield
        return
    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    # peft's own switch would make the reference trainable, and the policy not
    before = [layer._active_adapter for layer in layers]  # noqa: SLF001
    for layer in layers:
        layer._active_adapter = REFERENCE  # noqa: SLF001
    try:
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer._active_adapter = active  # noqa: SLF001


@contextmanager
def adapters_off(adapted: PeftModel | None) -> Iterator[None]:
    """Inside, the model is its own reference (only for adapted models)."""
    if adapted is None:
        yield
        return
    with adapted.disable_adapter():
        yield


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that are trained, by name: what a checkpoint holds."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def merge_into(base: Any, folder: Path) -> Any:
    """Load an adapter folder onto a base model in fp32 and add it to the weights."""
    return beside(base, folder).merge_and_unload()


def beside(base: Any, folder: Path) -> PeftModel:
    """A base model with a saved LoRA adapter beside its weights; `ValueError` with the cure."""
    config = lora_config(folder)
    with in_one_line(f"the adapter in {folder} does not fit its base model"):
        return PeftModel.from_pretrained(base, folder, config=config)


def adapter_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a saved adapter."""
    return load_file(folder / "adapter_model.safetensors")
