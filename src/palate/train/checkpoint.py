"""Checkpoints: what a run needs to go on bit for bit, committed atomically.

`checkpoints/step-N/` holds the trained weights, the optimizer's moments and the
method's state as safetensors, the step and the metrics that wait for the next line of
metrics.jsonl as JSON, and a manifest with every file's checksum. The order of examples
is a pure function of (seed, epoch, step) and training draws nothing else, so no
generator state is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.durable import Damaged, commit_folder, verify_folder
from palate.losses.batch import State


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on: the next step is `step` + 1 in people's counting."""

    step: int
    state: State
    folder: Path
    passed_over: tuple[str, ...]
    waiting: dict[str, Any] = field(default_factory=dict)


def save(
    root: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: State,
    keep: int,
    waiting: Mapping[str, Any] | None = None,
) -> Path:
    """Commit `root/step-N`, then remove all but the newest `keep`.

    `waiting` is JSON that comes back with the checkpoint: metrics of an unfinished interval.
    """

    def fill(folder: Path) -> None:
        trained = {name: weight.detach().contiguous() for name, weight in weights.items()}
        save_file(trained, folder / "weights.safetensors")
        save_file(_moments(weights, optimizer), folder / "optimizer.safetensors")
        save_file({n: t.contiguous() for n, t in state.items()}, folder / "method.safetensors")
        body = json.dumps({"step": step, "waiting": dict(waiting or {})})
        (folder / "state.json").write_text(body, encoding="utf-8")

    target = root / f"step-{step}"
    commit_folder(target, fill, {"step": step, "format": 1})
    for old in list_checkpoints(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def list_checkpoints(root: Path) -> list[Path]:
    """Committed checkpoints, oldest first."""
    found = [p for p in root.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def load_latest(
    root: Path, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> Resumed | None:
    """Put the newest good checkpoint into the weights and the optimizer.

    A damaged one is passed over for the one before, named, and moved to `step-N.damaged`, so
    that it does not count among those that are kept. Returns None when there is none at all;
    raises `ValueError` when all are damaged, or the weights do not fit.
    """
    damaged: list[str] = []
    broken: list[Path] = []
    for folder in reversed(list_checkpoints(root)):
        try:
            verify_folder(folder)
        except Damaged as error:
            damaged.append(str(error))
            broken.append(folder)
            continue
        found = _load(folder, weights, optimizer, tuple(damaged))
        for other in broken:
            _set_aside(other)
        return found
    if damaged:
        raise ValueError(
            f"no checkpoint below {root} is whole ({damaged[0]}): start again with resume=never"
        )
    return None


@torch.no_grad()
def _load(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    damaged: tuple[str, ...],
) -> Resumed:
    stored = load_file(folder / "weights.safetensors")
    if {n: t.shape for n, t in stored.items()} != {n: w.shape for n, w in weights.items()}:
        raise ValueError(
            f"{folder} holds other weights than this recipe trains: the adapter or the model "
            "changed; use the run's own config.yaml, or another name"
        )
    for name, weight in weights.items():
        weight.copy_(stored[name])
    moments = load_file(folder / "optimizer.safetensors")
    for name, weight in weights.items():
        entry = {
            key: moments[f"{name}/{key}"].to(_home(optimizer, weight, key))
            for key in ("exp_avg", "exp_avg_sq", "step", "exp_avg_scale", "exp_avg_sq_scale")
            if f"{name}/{key}" in moments
        }
        if entry:
            optimizer.state[weight] = entry
    body = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Resumed(
        step=body["step"],
        state=dict(load_file(folder / "method.safetensors")),
        folder=folder,
        passed_over=damaged,
        waiting=body.get("waiting", {}),
    )


def _home(optimizer: torch.optim.Optimizer, weight: Tensor, key: str) -> torch.device:
    """Where a part of a weight's state belongs: only a fused step count is beside its weight."""
    fused = optimizer.param_groups[0].get("fused")
    return weight.device if fused or key != "step" else torch.device("cpu")


def _set_aside(folder: Path) -> None:
    target = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def _moments(weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments by weight name: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`."""
    return {
        f"{name}/{key}": value.detach().contiguous()
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }
