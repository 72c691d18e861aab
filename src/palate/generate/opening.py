"""Opening a model to sample from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from palate.model.frozen import open_frozen
from palate.model.many_adapters import ManyAdapters
from palate.model.policy import Policy
from palate.tokens.render import Renderer


def open_policy(
    place: str, template: Any = "auto", trust_remote_code: bool = False, *, probed: bool = False
) -> tuple[Policy, Renderer]:
    """A model to sample from, frozen, on the best device here, and what renders for it.

    `probed` is for one that also scores: it computes what rows share once, where that is exact.
    """
    policy, renderer, _ = open_adapted(place, (), template, trust_remote_code, probed=probed)
    return policy, renderer


def open_adapted(
    place: str,
    adapters: Sequence[Path],
    template: Any = "auto",
    trust_remote_code: bool = False,
    check: Callable[[Any], None] = lambda model: None,
    *,
    probed: bool = False,
) -> tuple[Policy, Renderer, ManyAdapters | None]:
    """The same with saved LoRA adapters beside the weights; raises `ValueError` with the cure.

    `check` is shown the model as it was loaded, in fp32.
    """
    opened = open_frozen(
        place,
        trust_remote_code=trust_remote_code,
        adapters=adapters,
        check=check,
        probed=probed,
    )
    loaded = opened.loaded
    renderer = Renderer(loaded.tokenizer, template=template, end_ids=loaded.end_ids)
    return opened.policy, renderer, opened.beside
