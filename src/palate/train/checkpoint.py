"""Checkpoints: what a run needs to go on bit for bit, committed atomically.

`checkpoints/step-N/` holds the trained weights, the optimizer's moments and the
method's state as safetensors, the step and the metrics that wait for the next line of
metrics.jsonl as JSON, and a manifest with every file's checksum. The order of examples
is a pure function of (seed, epoch, step) and training draws nothing else, so no
generator state is needed.

Tensors are whole, whatever ranks they were divided over, and rank 0 writes them: a run goes on
with another number of ranks. The manifest says who wrote it and names each tensor with its
shape and dtype, so that a reader knows what is inside without opening a file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.durable import Damaged, commit_folder, verify_folder
from palate.losses.batch import State
from palate.train.parallel import ALONE, Ranks

# 1: without world, parallel and tensors, and otherwise the same. 2: only the interval's sums wait.
# 3: as described above.
FORMAT = 3


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on: the next step is `step` + 1 in people's counting."""

    step: int
    state: State
    folder: Path
    passed_over: tuple[str, ...]
    waiting: dict[str, Any] = field(default_factory=dict)
    world: int = 1
    parallel: str = "none"


def save(
    root: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: State,
    keep: int,
    waiting: Mapping[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> Path:
    """Commit `root/step-N`, then remove all but the newest `keep`. All ranks call it together.

    `waiting` is JSON that comes back with the checkpoint: metrics of an unfinished interval, and
    the best measurement so far, `best.step`, whose checkpoint is never removed.
    """
    files = {
        "weights": ranks.whole(weights),
        "optimizer": ranks.whole(_moments(weights, optimizer)),
        "method": {name: value.contiguous() for name, value in state.items()},
    }

    def fill(folder: Path) -> None:
        for name, tensors in files.items():
            save_file(tensors, folder / f"{name}.safetensors")
        body = json.dumps({"step": step, "waiting": dict(waiting or {})})
        (folder / "state.json").write_text(body, encoding="utf-8")

    target = root / f"step-{step}"

    def commit() -> None:
        who = {"world": ranks.world, "parallel": ranks.parallel}
        tensors = {name: _contents(inside) for name, inside in files.items()}
        commit_folder(target, fill, {"format": FORMAT, "step": step, **who, "tensors": tensors})
        best = ((waiting or {}).get("best") or {}).get("step")
        for old in list_checkpoints(root)[:-keep]:
            if old.name != f"step-{best}":
                shutil.rmtree(old, ignore_errors=True)

    ranks.on_main(commit)
    return target


def list_checkpoints(root: Path) -> list[Path]:
    """Committed checkpoints, oldest first."""
    found = [p for p in root.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def load_latest(
    root: Path,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    ranks: Ranks = ALONE,
) -> Resumed | None:
    """Put the newest good checkpoint into the weights and the optimizer, on all ranks together.

    A damaged one is passed over for the one before, named, and moved to `step-N.damaged`, so
    that it does not count among those that are kept. Returns None when there is none at all;
    raises `ValueError` when all are damaged, or the weights do not fit.
    """
    name, manifest, damaged = ranks.on_main(lambda: _newest(root))
    if name is None:
        return None
    found = _load(root / name, weights, optimizer, manifest, tuple(damaged.values()))
    ranks.on_main(lambda: _set_aside(root, damaged))
    return found


def load_weights(root: Path, weights: Mapping[str, Tensor], step: int | None = None) -> None:
    """Put the weights of a step's checkpoint into `weights`; default: of the newest good one.

    Raises `ValueError` where the step's is not there or not whole.
    """
    if step is None:
        name = _newest(root)[0]  # which has verified it
        assert name is not None, "a run that came to its end has a checkpoint"
    else:
        name = f"step-{step}"
        try:
            verify_folder(root / name)
        except Damaged as error:
            raise ValueError(f"the best checkpoint cannot be read ({error}): start anew") from error
    _put_weights(root / name, weights)


def _newest(root: Path) -> tuple[str | None, dict[str, Any], dict[str, str]]:
    """The newest good checkpoint's name and manifest, and what is wrong with newer ones."""
    damaged: dict[str, str] = {}
    for folder in reversed(list_checkpoints(root)):
        try:
            manifest = verify_folder(folder)
        except Damaged as error:
            damaged[folder.name] = str(error)
            continue
        if manifest["format"] > FORMAT:
            raise ValueError(
                f"{folder} was written by a newer Palate: update this one, or start again with "
                "resume=never"
            )
        return folder.name, manifest, damaged
    if damaged:
        why = next(iter(damaged.values()))
        raise ValueError(
            f"no checkpoint below {root} is whole ({why}): start again with resume=never"
        )
    return None, {}, {}


@torch.no_grad()
def _put_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    stored = load_file(folder / "weights.safetensors")
    if {n: t.shape for n, t in stored.items()} != {n: w.shape for n, w in weights.items()}:
        raise ValueError(
            f"{folder} holds other weights than this recipe trains: the adapter or the model "
            "changed; use the run's own config.yaml, or another name"
        )
    for name, weight in weights.items():
        weight.copy_(_like(weight, stored[name], weight.device))


def _load(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    manifest: dict[str, Any],
    damaged: tuple[str, ...],
) -> Resumed:
    _put_weights(folder, weights)
    moments = load_file(folder / "optimizer.safetensors")
    for name, weight in weights.items():
        entry = {
            key: _like(weight, moments[f"{name}/{key}"], _home(optimizer, weight, key))
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
        world=manifest.get("world", 1),
        parallel=manifest.get("parallel", "none"),
    )


def _home(optimizer: torch.optim.Optimizer, weight: Tensor, key: str) -> torch.device:
    """Where a part of a weight's state belongs: only a fused step count is beside its weight."""
    fused = optimizer.param_groups[0].get("fused")
    return weight.device if fused or key != "step" else torch.device("cpu")


def _like(weight: Tensor, value: Tensor, device: torch.device) -> Tensor:
    """A whole tensor on a device; divided over ranks as the weight is, if it is."""
    if not hasattr(weight, "full_tensor") or value.shape != weight.shape:
        return value.to(device)
    from palate.train.shard import like

    return like(weight, value)


def _set_aside(root: Path, damaged: Iterable[str]) -> None:
    for name in damaged:
        target = root / f"{name}.damaged"
        shutil.rmtree(target, ignore_errors=True)
        (root / name).rename(target)


def _contents(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Shape and dtype by name, for the manifest."""
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    }


def _moments(weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments by weight name: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`."""
    return {
        f"{name}/{key}": value
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }
