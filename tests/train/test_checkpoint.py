"""Checkpoints: atomic, verified, pruned, and never anything but tensors and JSON."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from palate.durable import verify_folder
from palate.train import checkpoint

Setup = tuple[dict[str, Tensor], torch.optim.AdamW]
FILES = ("weights.safetensors", "optimizer.safetensors", "method.safetensors", "state.json")


def setup(seed: int = 0, rows: int = 3) -> Setup:
    torch.manual_seed(seed)
    weights: dict[str, Tensor] = {
        "layer.weight": torch.nn.Parameter(torch.randn(rows, 2)),
        "layer.bias": torch.nn.Parameter(torch.randn(2)),
    }
    return weights, torch.optim.AdamW(list(weights.values()), lr=0.1)


def step(weights: dict[str, Tensor], optimizer: torch.optim.AdamW, seed: int) -> None:
    torch.manual_seed(seed)
    for weight in weights.values():
        weight.grad = torch.randn_like(weight)
    optimizer.step()


def saved(root: Path, steps: int = 3, keep: int = 2) -> Setup:
    weights, optimizer = setup()
    for number in range(1, steps + 1):
        step(weights, optimizer, number)
        save(root, number, weights, optimizer, {"ema": torch.ones(2) * number}, keep)
    return weights, optimizer


def save(
    root: Path,
    number: int,
    weights: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Tensor],
    keep: int,
    waiting: dict[str, Any] | None = None,
) -> None:
    """A checkpoint of a process alone, at once."""
    staged = checkpoint.stage(number, weights, optimizer, state, waiting)
    checkpoint.write(root, staged, keep)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def flip(path: Path, place: int = -1) -> None:
    body = bytearray(path.read_bytes())
    body[place] ^= 1
    path.write_bytes(bytes(body))


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    weights, optimizer = saved(tmp_path)
    other, other_optimizer = setup(seed=9)
    found = checkpoint.load_latest(tmp_path, other, other_optimizer)
    assert found is not None
    assert (found.step, found.passed_over, found.waiting) == (3, (), {})
    assert torch.equal(found.state["ema"], torch.full((2,), 3.0))
    for name, weight in weights.items():
        assert torch.equal(other[name], weight)
        for key, moment in optimizer.state[weight].items():
            assert torch.equal(other_optimizer.state[other[name]][key], moment), key
    step(weights, optimizer, 77)
    step(other, other_optimizer, 77)
    assert all(torch.equal(other[name], weight) for name, weight in weights.items())


def test_the_metrics_that_wait_come_back(tmp_path: Path) -> None:
    weights, optimizer = setup()
    save(tmp_path, 1, weights, optimizer, {}, 1, {"sums": {"loss": 1 / 3}})
    found = checkpoint.load_latest(tmp_path, weights, optimizer)
    assert found is not None
    assert found.waiting == {"sums": {"loss": 1 / 3}}


def test_only_safetensors_and_json(tmp_path: Path) -> None:
    saved(tmp_path, steps=1)
    folder = tmp_path / "step-1"
    assert names(folder) == sorted([*FILES, "manifest.json"])
    for path in folder.glob("*.safetensors"):
        length = int.from_bytes(path.read_bytes()[:8], "little")  # a header of JSON comes first
        assert path.read_bytes()[8 : 8 + length].strip().startswith(b"{")


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, steps=12, keep=keep)
    assert names(tmp_path) == sorted(f"step-{n}" for n in range(13 - keep, 13))
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == [
        f"step-{n}" for n in range(13 - keep, 13)
    ]


def test_nothing_there(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path / "checkpoints", *setup()) is None


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_one_is_passed_over_for_the_one_before(
    tmp_path: Path, name: str, harm: str
) -> None:
    saved(tmp_path)
    path = tmp_path / "step-3" / name
    if harm == "flip":
        # Of the manifest, a byte that no checksum covers: its first.
        flip(path, 0 if name == "manifest.json" else path.stat().st_size // 2)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    found = checkpoint.load_latest(tmp_path, *setup())
    assert found is not None
    assert found.step == 2
    assert len(found.passed_over) == 1
    assert "step-3" in found.passed_over[0]
    assert name.split(".", maxsplit=1)[0] in found.passed_over[0]
    assert names(tmp_path) == ["step-2", "step-3.damaged"]


def test_all_damaged_is_one_line_with_the_cure(tmp_path: Path) -> None:
    saved(tmp_path)
    for number in (2, 3):
        flip(tmp_path / f"step-{number}" / "weights.safetensors")
    weights, optimizer = setup(seed=9)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with pytest.raises(ValueError, match=r"no checkpoint below .* is whole .*resume=never") as said:
        checkpoint.load_latest(tmp_path, weights, optimizer)
    assert "\n" not in str(said.value)
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    assert names(tmp_path) == ["step-2", "step-3"]


def test_a_damaged_one_does_not_count_among_those_kept(tmp_path: Path) -> None:
    """It would push out the good one that was just saved."""
    saved(tmp_path, steps=5, keep=5)
    flip(tmp_path / "step-5" / "weights.safetensors")
    weights, optimizer = setup()
    found = checkpoint.load_latest(tmp_path, weights, optimizer)
    assert found is not None
    assert found.step == 4
    save(tmp_path, 5, weights, optimizer, {}, 1)
    assert names(tmp_path) == ["step-5", "step-5.damaged"]


@pytest.mark.parametrize("change", ["shape", "names"])
def test_other_weights_are_one_line_with_the_cure(tmp_path: Path, change: str) -> None:
    saved(tmp_path)
    weights, optimizer = setup(rows=4) if change == "shape" else setup()
    if change == "names":
        weights["another"] = weights.pop("layer.bias")
    with pytest.raises(ValueError, match=r"step-3 holds other weights.*adapter") as said:
        checkpoint.load_latest(tmp_path, weights, optimizer)
    assert "\n" not in str(said.value)


def test_leftovers_of_a_crash_are_no_checkpoints(tmp_path: Path) -> None:
    saved(tmp_path, steps=2)
    shutil.copytree(tmp_path / "step-2", tmp_path / ".step-3.tmp")
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-4.damaged").mkdir()
    found = checkpoint.load_latest(tmp_path, *setup())
    assert found is not None
    assert found.step == 2
    weights, optimizer = setup()
    save(tmp_path, 3, weights, optimizer, {}, 2)
    assert names(tmp_path) == ["step-2", "step-3", "step-4.damaged", "step-x"]


WRITES = (
    "palate.train.checkpoint.save_file",
    "pathlib.Path.write_text",
    "palate.durable.os.fsync",
    "palate.durable.write_json",
    "pathlib.Path.replace",
    "pathlib.Path.rename",
    "pathlib.Path.mkdir",
)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_leaves_the_last_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, nth: int
) -> None:
    """The n-th call of each way to write fails; where there are fewer calls, saving works."""
    root = tmp_path / "checkpoints"
    weights, optimizer = saved(root, steps=2)
    good = {name: weight.detach().clone() for name, weight in weights.items()}
    step(weights, optimizer, 3)
    real, calls = _resolve(write), 0

    def full(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(write, full)
    failed = None
    try:
        save(root, 3, weights, optimizer, {}, 2)
    except OSError as error:
        failed = error.errno
    monkeypatch.undo()
    removing = (write, nth) == ("pathlib.Path.rename", 2)  # the oldest, once the new one is there
    assert failed == (errno.ENOSPC if calls >= nth and not removing else None)
    if failed is None:
        assert names(root) == [*(["step-1"] if removing else []), "step-2", "step-3"]
        return
    assert names(root) == ["step-1", "step-2"]
    other, other_optimizer = setup(seed=9)
    found = checkpoint.load_latest(root, other, other_optimizer)
    assert found is not None
    assert found.step == 2
    assert all(torch.equal(other[name], value) for name, value in good.items())


def _resolve(dotted: str) -> Any:
    """What `monkeypatch` would replace."""
    import importlib

    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(dotted)


def test_a_crash_while_an_old_one_is_removed_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that removing takes away is the last before the process dies."""
    for deaths in range(1, 6):
        root = tmp_path / str(deaths)
        weights, optimizer = saved(root, steps=2)
        real, calls = os.unlink, 0

        def dying(*args: Any, at: int = deaths, real: Any = real, **kwargs: Any) -> None:
            nonlocal calls
            calls += ".palate-unfinished" not in str(args[0])
            if calls == at:
                raise KeyboardInterrupt
            real(*args, **kwargs)

        monkeypatch.setattr("os.unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            save(root, 3, weights, optimizer, {}, 2)
        monkeypatch.undo()
        for folder in checkpoint.list_checkpoints(root):
            verify_folder(folder)
        found = checkpoint.load_latest(root, weights, optimizer)
        assert found is not None
        assert found.step == 3
        assert names(root) == ["step-2", "step-3"]
