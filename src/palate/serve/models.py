"""The models that are served: names, weights, and which of them share one copy."""

from __future__ import annotations

import copy
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from palate.config import ConfigError
from palate.generate.opening import open_adapted
from palate.machine import bound_kernels, memory_limit
from palate.model.load import resolve, weights_hash
from palate.model.saved_adapter import adapter_hash
from palate.serve.lane import Lane
from palate.serve.settings import Entry, Settings
from palate.serve.text import TokenNames
from palate.tokens.render import Renderer

BASE = "base"
"""The name of the model beside which adapters stand."""
_SHARE = 8  # one part in so many of the memory goes to keys and values


@dataclass(frozen=True, slots=True)
class Served:
    """What answers under a name: `adapter` 0 is the weights alone.

    `reader` is a tokenizer of the scheduler's own: one that renders in another thread must not
    be used at the same time. `longest` is the length of its longest token, in characters.
    """

    name: str
    lane: Lane
    adapter: int
    renderer: Renderer
    reader: Any
    names: TokenNames
    longest: int
    fingerprint: str
    created: int

    def shifted(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Ids of a prompt as its lane takes them, see `palate.generate.plan.split_ids`."""
        shift = self.adapter * self.lane.vocabulary
        return tuple(token + shift for token in ids) if shift else tuple(ids)

    def to_dict(self) -> dict[str, Any]:
        """The object of `/v1/models`."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "palate"}


def with_bases(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, and the bases of their adapters under names of their own.

    One base is called `base`; where there are several, each is called by its place's last part,
    with a number where that is the same.
    Raises `ConfigError` for a name that stands for two models.
    """
    found = list(entries)
    known = {_weights(entry) for entry in entries if entry.adapter is None}
    bases = {_weights(entry): entry for entry in entries if entry.adapter is not None}
    fresh = [entry for key, entry in bases.items() if key not in known]
    used: Counter[str] = Counter()
    for entry in fresh:
        name = BASE if len(fresh) == 1 else f"{BASE}-{Path(entry.place).name}"
        used[name] += 1
        name = name if used[name] == 1 else f"{name}-{used[name]}"
        found.append(Entry(name, entry.place, entry.template, entry.trust_remote_code))
    twice = [name for name, count in Counter(entry.name for entry in found).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two models would be called '{twice[0]}': give folders whose last parts differ"
        )
    return found


def open_models(
    entries: Sequence[Entry], settings: Settings, say: Callable[[str], None]
) -> list[Served]:
    """Load every copy of weights once, with the adapters that stand beside it.

    Raises `ValueError` with the cure.
    """
    bound_kernels()
    entries = with_bases(entries)
    groups: dict[tuple[str, str, bool], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_weights(entry), []).append(entry)
    served: list[Served] = []
    for group in groups.values():
        first = group[0]
        folders = [entry.adapter for entry in group if entry.adapter is not None]
        say(f"loading {first.place} …")
        policy, renderer, adapters = open_adapted(
            first.place,
            folders,
            first.template,
            first.trust_remote_code,
            partial(_refuse_changed, group),
        )
        memory = (settings.memory or _memory(policy.device)) // len(groups)
        lane = Lane(policy, settings.rows, memory, adapters)
        if lane.why_padded is not None:
            say(f"{first.place} is answered in padded batches, slower: {lane.why_padded}")
        served += _named(group, lane, renderer)
    order = {entry.name: number for number, entry in enumerate(entries)}
    return sorted(served, key=lambda one: order[one.name])


def _refuse_changed(group: Sequence[Entry], model: Any) -> None:
    """`ValueError` where an adapter was trained on other weights than these."""
    known = [entry for entry in group if entry.adapter is not None and entry.base_sha256]
    if not known:
        return
    found = weights_hash(model)
    for entry in known:
        if entry.base_sha256 != found:
            raise ValueError(
                f"{entry.place} holds other weights than when {entry.name} was trained: its "
                "adapter belongs to the ones of before; bring them back, or serve its merged "
                "model, RUN/model"
            )


def _memory(device: torch.device) -> int:
    """Bytes for keys and values on this device."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // _SHARE
    return memory_limit() // _SHARE


def _named(group: Sequence[Entry], lane: Lane, renderer: Renderer) -> list[Served]:
    reader = copy.deepcopy(renderer.tokenizer)
    names = TokenNames(copy.deepcopy(renderer.tokenizer))
    longest = max(len(token) for token in reader.get_vocab())
    files, number, served = _files(group[0].place), 0, []
    for entry in group:
        number += entry.adapter is not None
        adapter = number if entry.adapter is not None else 0
        own = adapter_hash(str(entry.adapter)) if entry.adapter is not None else ""
        fingerprint = hashlib.sha256(f"{files}|{own}|{lane.policy.precision}".encode())
        served.append(
            Served(
                entry.name,
                lane,
                adapter,
                renderer,
                reader,
                names,
                longest,
                f"fp_{fingerprint.hexdigest()[:12]}",
                int(time.time()),
            )
        )
    return served


def _weights(entry: Entry) -> tuple[str, str, bool]:
    """What entries that share one copy of weights have in common."""
    place = Path(entry.place).expanduser()
    found = str(place.resolve()) if place.exists() else entry.place
    return found, str(entry.template), entry.trust_remote_code


def _files(place: str) -> str:
    """Names, sizes and times of the files of weights: other weights, another fingerprint."""
    folder = Path(resolve(place))
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return "|".join(f"{one.name},{one.stat().st_size},{one.stat().st_mtime_ns}" for one in files)
