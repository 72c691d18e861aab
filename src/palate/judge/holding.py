"""A model in this process that judges: where its folder is, and what makes it the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.durable import file_hash

if TYPE_CHECKING:
    from palate.model.policy import Policy
    from palate.tokens.render import Renderer

BUDGET = 4096
"""Tokens of one forward pass."""
# What decides a model's output; a run's logs and optimizer do not.
_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".gguf", ".py")


@dataclass(frozen=True, slots=True)
class Held:
    """A loaded model, how texts become its tokens, and how many of them it reads."""

    policy: Policy
    renderer: Renderer
    limit: int


def place_of(path: str) -> str:
    """The model's folder: of a run, what it ships. Raises `ValueError` for a run without one."""
    folder = Path(path).expanduser()
    if not (folder / "config.yaml").is_file():
        return path
    if not (folder / "model" / "config.json").is_file():
        raise ValueError(
            f"the run {folder} has no model yet: finish it, or of a run with stages name a stage's "
            "folder"
        )
    return str(folder / "model")


def content_of(path: str) -> str:
    """Hash of the model's files; of a name that is no path, the name."""
    place = Path(place_of(path)).expanduser()
    if place.is_file():
        return file_hash(place)
    if not place.is_dir():
        return path
    files = [file for file in sorted(place.iterdir()) if file.suffix in _FILES and file.is_file()]
    sums = [f"{file.name} {file_hash(file)}" for file in files]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def hold_language_model(
    path: str, device: str, template: Any = "auto", trust_remote_code: bool = False
) -> Held:
    """Load a causal language model to be asked; raises `ValueError` with the cure."""
    from palate.model.frozen import open_frozen

    opened = open_frozen(place_of(path), device, trust_remote_code=trust_remote_code, probed=True)
    return _held(opened.policy, opened.loaded.tokenizer, opened.loaded.end_ids, template)


def hold_reward_model(path: str, device: str) -> Held:
    """Load a sequence classifier with one output; raises `ValueError` with the cure."""
    from torch import nn
    from transformers import AutoModelForSequenceClassification

    from palate.model.load import (
        end_ids,
        load_config_only,
        load_tokenizer,
        resolve,
        to_compute,
        weights_at,
    )
    from palate.model.place import pick_device, pick_precision
    from palate.model.policy import Policy, silence_dropout

    place = resolve(place_of(path))
    config = load_config_only(place)
    names = [str(name) for name in getattr(config, "architectures", None) or []]
    if config.num_labels != 1 or not any(n.endswith("ForSequenceClassification") for n in names):
        raise ValueError(
            f"{path} is no reward model (a sequence classifier with one output): train one with "
            "method=reward, and give its run's folder"
        )
    where = pick_device(device, "device")
    tokenizer, _ = load_tokenizer(place)
    model = weights_at(AutoModelForSequenceClassification, place, path)
    silence_dropout(model)
    nn.Module.to(model.eval(), where).requires_grad_(False)
    head = nn.Linear(model.score.in_features, 1, bias=model.score.bias is not None, device=where)
    head.load_state_dict(model.score.state_dict())
    precision = pick_precision("auto", where)
    to_compute(model, precision)
    policy = Policy(model, layout="plain", precision=precision)
    policy.scalar = head.requires_grad_(False)
    return _held(policy.eval(), tokenizer, end_ids(tokenizer, None))


def _held(policy: Policy, tokenizer: Any, ends: tuple[int, ...], template: Any = "auto") -> Held:
    from palate.generate.sampling import most_positions
    from palate.tokens.render import Renderer

    limit = most_positions(policy)
    renderer = Renderer(tokenizer, template=template, max_length=limit, end_ids=ends)
    return Held(policy, renderer, limit)
