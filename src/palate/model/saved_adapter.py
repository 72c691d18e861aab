"""A saved adapter to go on from: twice in the model, once trained and once frozen."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from palate.config import AdapterConfig, ConfigError
from palate.durable import file_hash
from palate.model.foreign import ADAPTER_CONFIG, ADAPTER_WEIGHTS, in_one_line, lora_config

REFERENCE = "reference"
_WEIGHTS, _CONFIG = ADAPTER_WEIGHTS, ADAPTER_CONFIG


def read_adapter(model: Any, config: AdapterConfig) -> PeftModel:
    """The model with the adapter of `config.path` as `default`, trained, and as `reference`.

    Raises `ConfigError` for a folder that holds no LoRA adapter, or one that the recipe
    does not describe.
    """
    assert config.path is not None
    folder = _folder(config.path)
    try:
        saved = lora_config(folder)
    except ValueError as error:
        raise ConfigError(f"adapter.path: {error}") from error
    _check(saved, config, folder)
    saved.lora_dropout, saved.inference_mode = 0.0, False
    frozen = copy.deepcopy(saved)
    frozen.inference_mode = True
    try:
        with (
            in_one_line(f"adapter.path: {folder} does not fit this model"),
            torch.random.fork_rng(devices=[]),  # what is drawn for both is overwritten
        ):
            adapted: PeftModel = get_peft_model(model, saved)
            adapted.add_adapter(REFERENCE, frozen)
            found = [
                adapted.load_adapter(folder, name, is_trainable=name == "default")
                for name in ("default", REFERENCE)
            ]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    amiss = [key for result in found for key in (*result.missing_keys, *result.unexpected_keys)]
    if amiss:
        raise ConfigError(
            f"adapter.path: {folder} was made for another model: {len(amiss)} of its matrices or "
            f"the model's have no counterpart, such as {amiss[0]}"
        )
    return adapted


def adapter_hash(path: str) -> str:
    """SHA-256 over what the adapter's folder says and holds, in hex."""
    folder = _folder(path)
    sums = [file_hash(folder / name) for name in (_CONFIG, _WEIGHTS)]
    return hashlib.sha256("|".join(sums).encode()).hexdigest()


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    missing = [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"adapter.path: {folder} has no {' and no '.join(missing)}: give the folder of a saved "
            "LoRA adapter, such as runs/NAME/adapter"
        )
    return folder


def _check(saved: LoraConfig, config: AdapterConfig, folder: Path) -> None:
    """Only what the recipe says, and only matrices beside frozen weights."""
    if saved.modules_to_save or saved.bias != "none":
        raise ConfigError(
            f"adapter.path: {folder} also holds weights that are no LoRA matrices "
            "(modules_to_save or bias): merge it into its model and start from that"
        )
    differ = [
        f"{name}={theirs:g}"
        for name, ours, theirs in (
            ("rank", config.rank, saved.r),
            ("alpha", config.alpha, saved.lora_alpha),
        )
        if ours != theirs
    ]
    if differ:
        raise ConfigError(
            f"adapter.path: {folder} was made with {', '.join(differ)}: say so in the recipe's "
            "adapter section"
        )
