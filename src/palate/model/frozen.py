"""A model that is asked and not trained: loaded, frozen, in the precision it computes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.machine import tune_allocator
from palate.model.load import Loaded, load, to_compute
from palate.model.many_adapters import ManyAdapters
from palate.model.place import pick_device, pick_precision
from palate.model.policy import Policy
from palate.model.probe import probe


@dataclass(frozen=True, slots=True)
class Frozen:
    """The policy, what it was made of, where it is (`device`) and how it computes (`precision`).

    `beside` are the adapters that its rows may choose from, where there are any.
    """

    policy: Policy
    loaded: Loaded
    device: str
    precision: str
    beside: ManyAdapters | None = None


def open_frozen(
    place: str,
    device: str = "auto",
    *,
    trust_remote_code: bool = False,
    adapters: Sequence[Path] = (),
    check: Callable[[Any], None] = lambda model: None,
    probed: bool = False,
) -> Frozen:
    """Open the model at `place` on `device` ("auto" chooses); `ValueError` with the cure.

    `check` is shown the model as it was loaded, in fp32. `probed` chooses the layout by the
    start-up probe: the tree where it gives what padded rows give; without, rows are plain. The
    probe runs before weights are rounded, as it does before a training: it computes in fp32.
    """
    tune_allocator()  # before the first large tensor
    where = pick_device(device, "device")
    precision = pick_precision("auto", where)
    loaded = load(place, trust_remote_code=trust_remote_code, device=where)
    check(loaded.model)
    loaded.model.requires_grad_(False)
    layout = probe(Policy(loaded.model).eval()).layout if probed else "plain"
    to_compute(loaded.model, precision)
    beside = ManyAdapters(loaded.model, adapters) if adapters else None
    policy = Policy(loaded.model, layout=layout, precision=precision).eval()
    return Frozen(policy, loaded, where, precision, beside)
