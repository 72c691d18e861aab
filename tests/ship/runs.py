"""Finished runs of tiny random models, put together without training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from tests.tiny import byte_tokenizer, tiny_model

from palate.config import AdapterConfig, RunConfig
from palate.model.adapters import attach
from palate.model.load import weights_hash
from palate.records import Completion, Example, Message, Verdict
from palate.ship.merge import ship_adapter, ship_full
from palate.store.snapshot import write_snapshot
from palate.train.folder import Plan

SYSTEM = "Be brief, and end with a question."


def pair(number: int) -> Example:
    """A question under the system prompt, with a good and a bad answer."""
    said = (f"Yes, {number} it is. And you?", f"No [{number}], not at all: naïve!")
    return Example(
        (Message("system", SYSTEM), Message("user", f"Question {number}: isn't it 1{number}?")),
        tuple(Completion((Message("assistant", text),)) for text in said),
        Verdict(0, 1),
    )


def adapted(model: Any, seed: int = 2) -> Any:
    """The model with LoRA matrices that change what it says."""
    peft = attach(model, AdapterConfig(rank=4), seed=1)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    return peft


def save_run(home: Path, base: Any = None, tokenizer: Any = None, **settings: Any) -> Path:
    """The folder of a finished run, of LoRA or with `adapter="full"`.

    `base()` gives the model it started from; `tokenizer` goes with it.
    """
    base, tokenizer = base or tiny_model, tokenizer or byte_tokenizer()
    place = home / "base"
    base().save_pretrained(place)
    tokenizer.save_pretrained(place)
    config = RunConfig.model_validate(
        {"name": "tiny", "out": str(home), "model": str(place), "data": "pairs.jsonl"}
        | {"adapter": {"rank": 4}, "method": "dpo"}
        | settings
    )
    folder = config.folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    if config.adapter.kind == "full":
        ship_full(base(), tokenizer, folder / "model")
    else:
        ship_adapter(adapted(base()), base(), tokenizer, folder / "model", folder / "adapter")
    plan = Plan("plain", "", "fp32", "cpu", 1, 400, base_sha256=weights_hash(base()))
    (folder / "plan.json").write_text(json.dumps(asdict(plan)))
    write_snapshot(
        folder / "snapshot",
        [pair(number) for number in range(3, 9)],
        [pair(number) for number in range(3)],
        extra={"settings": {"path": "pairs.jsonl"}},
    )
    figures = {"heldout": {"n": 3, "accuracy": 1.0, "accuracy_interval": [0.44, 1.0]}}
    results = {**figures, "comparison": None, "method": {"name": "dpo", "beta": 0.1}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder
