"""The models that are measured: what they are called, where they are, and how they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palate.judge.holding import content_of
from palate.machine import threads, tune_allocator
from palate.model.load import load, to_compute
from palate.model.place import pick_device, pick_precision
from palate.model.policy import Policy
from palate.model.probe import probe
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
        """Hash of its files: equal for copies, another after any change."""
        return content_of(self.place)


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model, frozen, and what renders for it; `device` and `precision` as decided."""

    policy: Policy
    renderer: Renderer
    device: str
    precision: str
    parameters: int


def open_candidate(candidate: Candidate, device: str, max_length: int) -> Opened:
    """Load it on `device` ("auto" chooses); raises `ValueError` with the cure."""
    import torch

    tune_allocator()  # before the first large tensor
    torch.set_num_threads(threads())
    where = pick_device(device)
    precision = pick_precision("auto", where)
    loaded = load(candidate.place, trust_remote_code=candidate.trust_remote_code, device=where)
    loaded.model.requires_grad_(False)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    to_compute(loaded.model, precision)
    policy = Policy(loaded.model, layout="plain", precision=precision)
    policy.eval()
    policy.layout = probe(policy).layout
    positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    renderer = Renderer(
        loaded.tokenizer,
        template=candidate.template,
        max_length=min(max_length, positions or max_length),
        end_ids=loaded.end_ids,
    )
    return Opened(policy, renderer, where, precision, parameters)
