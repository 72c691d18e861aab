"""Filling an export's folder in the formats of peft and transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig

from palate.durable import MANIFEST, write_json
from palate.model.load import weights_at
from palate.ship.origin import Base
from palate.ship.source import Source

Dtype = Literal["fp32", "bf16"]


def write_adapter(source: Source, base: Base, folder: Path) -> None:
    """The run's LoRA matrices, under the base's name as others know it, and the tokenizer."""
    assert source.adapter is not None
    shutil.copyfile(
        source.adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors"
    )
    config = json.loads((source.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    # What peft noted is where the base lay on the machine that trained.
    write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": base.name})
    source.tokenizer.save_pretrained(folder)
    write_generation(source, folder)


def write_merged(source: Source, folder: Path, dtype: Dtype) -> None:
    """The whole model: the run's files as they are, or its weights rounded to bf16."""
    if dtype == "fp32":
        for path in sorted(source.model.iterdir()):
            if path.is_file() and path.name not in {MANIFEST, "README.md"}:
                shutil.copyfile(path, folder / path.name)
    else:
        kind: Any = AutoModelForSequenceClassification if source.scores else AutoModelForCausalLM
        trust = source.config.model.trust_remote_code
        model = weights_at(kind, str(source.model), str(source.model), trust)
        model.to(torch.bfloat16).save_pretrained(folder)
        source.tokenizer.save_pretrained(folder)
    write_generation(source, folder)


def write_generation(source: Source, folder: Path) -> None:
    """generation_config.json, with every token that ends an answer; a classifier has none.

    Servers stop at what this file names, and a base model's often names only the end of a text.
    """
    if source.scores:
        return
    place = source.model / "generation_config.json"
    known = GenerationConfig.from_pretrained(source.model) if place.is_file() else None
    config = known or GenerationConfig.from_model_config(source.model_config)
    config.eos_token_id = list(source.end_ids)
    if config.pad_token_id is None:
        config.pad_token_id = source.tokenizer.pad_token_id
    config.save_pretrained(folder)
