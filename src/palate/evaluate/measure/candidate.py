"""The models that are measured: what they are called, where they are, and how they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from palate.judge.holding import content_of
from palate.machine import threads
from palate.model.frozen import open_frozen
from palate.model.load import load_config_only, resolve
from palate.model.policy import Policy
from palate.tokens.render import Renderer

BUDGET = 4096
"""Tokens of one forward pass."""


@dataclass(frozen=True)
class Candidate:
    """A model by its name; `run` is its run's folder, where it is a run's."""

    name: str
    place: str
    template: Any = "auto"
    trust_remote_code: bool = False
    run: Path | None = None

    @cached_property
    def identity(self) -> str:
        """Hash of its files: equal for copies, another after any change.

        Of a model on the hub, its name and the commit that is here.
        """
        place = resolve(self.place)
        if Path(place).exists():
            return content_of(place)
        known = try_to_load_from_cache(place, "config.json")
        return f"{place}@{Path(known).parent.name}" if isinstance(known, str) else place


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model, frozen, and what renders for it; `device` and `precision` as decided."""

    policy: Policy
    renderer: Renderer
    device: str
    precision: str
    parameters: int


def check_place(candidate: Candidate) -> None:
    """Raise `ValueError` with the cure where there is no such model, before any work."""
    load_config_only(candidate.place, trust_remote_code=candidate.trust_remote_code)


def open_candidate(candidate: Candidate, device: str, max_length: int) -> Opened:
    """Load it on `device` ("auto" chooses); raises `ValueError` with the cure."""
    torch.set_num_threads(threads())

    def check(model: Any) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            raise ValueError(
                f"{candidate.name} has weights that are not numbers: its training diverged (lower "
                "optim.lr and train anew)"
            )

    opened = open_frozen(
        candidate.place,
        device,
        trust_remote_code=candidate.trust_remote_code,
        check=check,
        probed=True,
    )
    model, tokenizer = opened.loaded.model, opened.loaded.tokenizer
    parameters = sum(p.numel() for p in model.parameters())
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    renderer = Renderer(
        tokenizer,
        template=candidate.template,
        max_length=min(max_length, positions or max_length),
        end_ids=opened.loaded.end_ids,
    )
    return Opened(opened.policy, renderer, opened.device, opened.precision, parameters)
