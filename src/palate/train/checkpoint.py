"""Checkpoints: what a run needs to go on bit for bit, committed atomically.

`checkpoints/step-N/` holds the trained weights, the optimizer's moments and the
method's state as safetensors, the step and the metrics that wait for the next line of
metrics.jsonl as JSON, and a manifest with every file's checksum. The order of examples
is a pure function of (seed, epoch, step) and training draws nothing else, so no
generator state is needed.

Rank 0 writes tensors that it holds whole. What is divided over ranks each rank writes its part of,
below `shards/` (`palate.train.shard_files`). Either way a run goes on with another number of ranks.
The manifest says who wrote it and names each tensor with its shape and dtype, so that a reader
knows what is inside without opening a file.

`stage` takes what a checkpoint holds, `write` puts it on the disk; `palate.train.saving` does the
second beside the training.
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

from palate.durable import (
    Damaged,
    commit_folder,
    remove_folder,
    remove_leftovers,
    verify_folder,
)
from palate.losses.batch import State
from palate.train import shard_files
from palate.train.parallel import ALONE, Ranks
from palate.train.shard_files import Divided, is_divided

# 1: without world, parallel and tensors, and otherwise the same. 2: only the interval's sums wait.
# 3: every tensor is whole. 4: as described above.
FORMAT = 4
_MOMENTS = ("exp_avg", "exp_avg_sq", "step", "exp_avg_scale", "exp_avg_sq_scale")


@dataclass(frozen=True, slots=True)
class Staged:
    """What a checkpoint will hold: whole tensors by file and name, and those that are divided.

    `body` is state.json's text, `best` the step whose checkpoint is never removed, `extra` goes to
    the manifest.
    """

    step: int
    files: Mapping[str, Mapping[str, Tensor]]
    divided: Divided | None
    body: str
    best: int | None
    extra: Mapping[str, Any]


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


def stage(
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: State,
    waiting: Mapping[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> Staged:
    """The tensors of a checkpoint as they are, not copied; of a rank but the first, its shards.

    `waiting` is JSON that comes back with the checkpoint: metrics of an unfinished interval, and
    the best measurement so far, `best.step`, whose checkpoint is never removed.
    """
    tensors = {"weights": weights, "optimizer": _moments(weights, optimizer), "method": state}
    divided = {
        f"{file}/{name}": value.detach()
        for file, inside in tensors.items()
        for name, value in inside.items()
        if is_divided(value)
    }
    whole = {
        file: {n: v.detach().contiguous() for n, v in inside.items() if not is_divided(v)}
        for file, inside in tensors.items()
    }
    contents = {file: _contents(inside) for file, inside in tensors.items()}
    return Staged(
        step=step,
        files=whole if ranks.is_main else {},
        divided=Divided(divided, ranks.files_group) if divided else None,
        body=json.dumps({"step": step, "waiting": dict(waiting or {})}),
        best=((waiting or {}).get("best") or {}).get("step"),
        extra={"world": ranks.world, "parallel": ranks.parallel, "tensors": contents},
    )


def write(root: Path, staged: Staged, keep: int) -> Path:
    """Commit what was staged, and remove all but the newest `keep` checkpoints.

    What is divided is written by all ranks together: `Divided.join_in` is what the others do.
    """
    target = root / f"step-{staged.step}"

    def fill(folder: Path) -> dict[str, str]:
        sums = staged.divided.write(folder) if staged.divided is not None else {}
        for name, tensors in staged.files.items():
            save_file(dict(tensors), folder / f"{name}.safetensors")
        (folder / "state.json").write_text(staged.body, encoding="utf-8")
        return sums

    try:
        commit_folder(target, fill, {"format": FORMAT, "step": staged.step, **staged.extra})
    except BaseException:
        if staged.divided is not None:
            staged.divided.give_up()
        raise
    for old in list_checkpoints(root)[:-keep]:
        if old.name != f"step-{staged.best}":
            remove_folder(old)
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
    ranks.on_main(lambda: remove_leftovers(root, "step-*"))
    if name is None:
        return None
    found = _load(root / name, weights, optimizer, manifest, tuple(damaged.values()))
    ranks.on_main(lambda: _set_aside(root, damaged))
    return found


def load_weights(root: Path, weights: Mapping[str, Tensor], step: int | None = None) -> None:
    """Put the weights of a step's checkpoint into `weights`; default: of the newest good one.

    Any rank may do so by itself, with weights that it holds whole. Raises `ValueError` where the
    step's is not there or not whole.
    """
    if step is None:
        name, manifest, _ = _newest(root)  # which has verified it
        assert name is not None, "a run that came to its end has a checkpoint"
    else:
        name = f"step-{step}"
        try:
            manifest = verify_folder(root / name)
        except Damaged as error:
            raise ValueError(f"the best checkpoint cannot be read ({error}): start anew") from error
    _put_weights(root / name, weights, manifest)


def read_tensors(folder: Path, file: str) -> dict[str, Tensor]:
    """A checkpoint's tensors of one kind, `weights`, `optimizer` or `method`, whole and on the CPU.

    Raises `Damaged` where the checkpoint is not whole.
    """
    described = verify_folder(folder).get("tensors", {}).get(file, {})
    found = load_file(folder / f"{file}.safetensors")
    missing = {
        name: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]))
        for name, entry in described.items()
        if name not in found
    }
    _read_divided(folder, file, missing)
    return {**found, **missing}


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
def _put_weights(folder: Path, weights: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    stored = load_file(folder / "weights.safetensors")
    divided = {
        name: entry["shape"]
        for name, entry in manifest.get("tensors", {}).get("weights", {}).items()
        if name not in stored
    }
    shapes = {**{name: list(t.shape) for name, t in stored.items()}, **divided}
    if shapes != {name: list(w.shape) for name, w in weights.items()}:
        raise ValueError(
            f"{folder} holds other weights than this recipe trains: the adapter or the model "
            "changed; use the run's own config.yaml, or another name"
        )
    for name, value in stored.items():
        weights[name].copy_(_like(weights[name], value, weights[name].device))
    _read_divided(folder, "weights", {name: weights[name].detach() for name in divided})


def _load(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    manifest: dict[str, Any],
    damaged: tuple[str, ...],
) -> Resumed:
    _put_weights(folder, weights, manifest)
    moments = load_file(folder / "optimizer.safetensors")
    described = manifest.get("tensors", {}).get("optimizer", {})
    divided: dict[str, Tensor] = {}
    for name, weight in weights.items():
        entry: dict[str, Tensor] = {}
        for key in _MOMENTS:
            full = f"{name}/{key}"
            if full in moments:
                entry[key] = _like(weight, moments[full], _home(optimizer, weight, key))
            elif full in described:
                dtype = getattr(torch, described[full]["dtype"])
                entry[key] = divided[full] = torch.empty_like(weight.detach(), dtype=dtype)
        if entry:
            optimizer.state[weight] = entry
    _read_divided(folder, "optimizer", divided)
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


def _read_divided(folder: Path, file: str, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or divided as they are here, with what several ranks wrote."""
    if into:
        shard_files.read(folder, {f"{file}/{name}": value for name, value in into.items()})


def _home(optimizer: torch.optim.Optimizer, weight: Tensor, key: str) -> torch.device:
    """Where a part of a weight's state belongs: only a fused step count is beside its weight."""
    fused = optimizer.param_groups[0].get("fused")
    return weight.device if fused or key != "step" else torch.device("cpu")


def _like(weight: Tensor, value: Tensor, device: torch.device) -> Tensor:
    """A whole tensor on a device; divided over ranks as the weight is, if it is."""
    if not is_divided(weight) or value.shape != weight.shape:
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
