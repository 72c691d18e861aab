"""Opening a model to sample from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from palate.model.load import load, to_compute
from palate.model.many_adapters import ManyAdapters
from palate.model.place import pick_device, pick_precision
from palate.model.policy import Policy
from palate.tokens.render import Renderer


def open_policy(
    place: str, template: Any = "auto", trust_remote_code: bool = False
) -> tuple[Policy, Renderer]:
    """A model to sample from, frozen, on the best device here, and what renders for it."""
    policy, renderer, _ = open_adapted(place, (), template, trust_remote_code)
    return policy, renderer


def open_adapted(
    place: str,
    adapters: Sequence[Path],
    template: Any = "auto",
    trust_remote_code: bool = False,
    check: Callable[[Any], None] = lambda model: None,
) -> tuple[Policy, Renderer, ManyAdapters | None]:
    """The same with saved LoRA adapters beside the weights; raises `ValueError` with the cure.

    `check` is shown the model as it was loaded, in fp32.
    """
    from palate.machine import tune_allocator

    tune_allocator()  # before the first large tensor
    device = pick_device("auto")
    precision = pick_precision("auto", device)
    loaded = load(place, trust_remote_code=trust_remote_code, device=device)
    check(loaded.model)
    loaded.model.requires_grad_(False)
    to_compute(loaded.model, precision)
    beside = ManyAdapters(loaded.model, adapters) if adapters else None
    policy = Policy(loaded.model, layout="plain", precision=precision)
    policy.eval()
    renderer = Renderer(loaded.tokenizer, template=template, end_ids=loaded.end_ids)
    return policy, renderer, beside
