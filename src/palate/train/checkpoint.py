"""Checkpoints: what a run needs to go on bit for bit, committed atomically.

`checkpoints/step-N/` holds the trained weights, the optimizer's moments and the
method's state as safetensors, the step as JSON, and a manifest with every file's
checksum. The order of examples is a pure function of (seed, epoch, step) and training
draws nothing else, so no generator state is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


def save(
    root: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: State,
    keep: int,
) -> Path:
    """Commit `root/step-N`, then remove all but the newest `keep`."""

    def fill(folder: Path) -> None:
        save_file({n: w.detach().contiguous() for n, w in weights.items()}, folder / "weights.safetensors")
        save_file(_moments(weights, optimizer), folder / "optimizer.safetensors")
        save_file({n: t.contiguous() for n, t in state.items()}, folder / "method.safetensors")
        (folder / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")

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

    A damaged one is passed over for the one before, and named. Returns None when there
    is none at all; raises `ValueError` when all are damaged, or the weights do not fit.
    """
    damaged: list[str] = []
    for folder in reversed(list_checkpoints(root)):
        try:
            verify_folder(folder)
        except Damaged as error:
            damaged.append(str(error))
            continue
        return _load(folder, weights, optimizer, tuple(damaged))
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
            key: moments[f"{name}/{key}"].to(weight.device if key != "step" else "cpu")
            for key in ("exp_avg", "exp_avg_sq", "step")
            if f"{name}/{key}" in moments
        }
        if entry:
            optimizer.state[weight] = entry
    step = json.loads((folder / "state.json").read_text(encoding="utf-8"))["step"]
    state = dict(load_file(folder / "method.safetensors"))
    return Resumed(step=step, state=state, folder=folder, passed_over=damaged)


def _moments(
    weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """AdamW's moments by weight name: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`."""
    return {
        f"{name}/{key}": value.detach().contiguous()
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }
