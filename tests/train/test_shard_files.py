"""What several ranks hold in parts is written by all, and read by any number of them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.test_checkpoint import flip, names
from torch import Tensor, nn

from palate.durable import Damaged, verify_folder
from palate.train import checkpoint

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
ROWS = (7, 3)  # neither divides by 2 or 4, and of four ranks one has nothing of the second


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, ROWS[0]), nn.Linear(ROWS[0], ROWS[1]))


def one_step(model: nn.Sequential) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 5)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def program(root: Path, want: str) -> None:
    """What each rank does: divide the layers, take a step, save it or load it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from palate.train.parallel import _FILES_TIMEOUT, join
    from palate.train.saving import Saver

    torch.set_num_threads(1)
    with join("fsdp") as ranks:
        ranks.files_group = torch.distributed.new_group(backend="gloo", timeout=_FILES_TIMEOUT)
        model = layers()
        fully_shard(model, mesh=init_device_mesh("cpu", (ranks.world,)))
        for module in model.modules():
            if hasattr(module, "set_gradient_divide_factor"):
                module.set_gradient_divide_factor(1.0 * ranks.world)
        weights: dict[str, Tensor] = dict(model.named_parameters())
        if want == "load":
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            found = checkpoint.load_latest(root, weights, optimizer, ranks)
            assert found is not None
            assert (found.step, found.parallel) == (1, "fsdp")
        else:
            optimizer = one_step(model)
        saver = Saver(root, 2, ranks)
        if want == "full" and ranks.rank == ranks.world - 1:
            _no_room()
        saver.save(1 if want != "load" else 2, weights, optimizer, {"z": torch.ones(1)}, {})
        with torch.no_grad():
            for weight in weights.values():
                weight.zero_()
        saver.settle()
        ranks.barrier()


def _no_room() -> None:
    """From here on this rank's disk is full."""
    from torch.distributed.checkpoint import filesystem

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    filesystem._write_files_from_queue = full


def start(root: Path, world: int, want: str) -> subprocess.CompletedProcess[str]:
    words = [
        "torch.distributed.run",
        f"--nproc-per-node={world}",
        "-m",
        "tests.train.test_shard_files",
        str(root),
        want,
    ]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *words],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two ranks, which is loaded and saved again by four."""
    root = tmp_path_factory.mktemp("shards")
    for world, want in ((2, "save"), (4, "load")):
        ended = start(root, world, want)
        assert ended.returncode == 0, ended.stderr
    return root


def expected() -> tuple[dict[str, Tensor], torch.optim.AdamW]:
    model = layers()
    optimizer = one_step(model)
    return dict(model.named_parameters()), optimizer


@pytest.mark.parametrize(("step", "world"), [(1, 2), (2, 4)])
def test_the_parts_are_the_whole(written: Path, step: int, world: int) -> None:
    folder = written / f"step-{step}"
    manifest = verify_folder(folder)
    shards = [name for name in manifest["files"] if name.startswith("shards/")]
    assert len(shards) == world
    assert all(name.endswith(".safetensors") for name in shards)
    assert not list(folder.rglob("*metadata*"))
    weights, optimizer = expected()
    found = checkpoint.read_tensors(folder, "weights")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    moments = checkpoint.read_tensors(folder, "optimizer")
    for name, weight in weights.items():
        for key, value in optimizer.state[weight].items():
            assert torch.equal(moments[f"{name}/{key}"], value), (name, key)


def test_one_process_goes_on_with_what_four_wrote(written: Path) -> None:
    weights, optimizer = expected()
    other = {name: torch.zeros_like(w).requires_grad_() for name, w in weights.items()}
    fresh = torch.optim.AdamW(list(other.values()), lr=0.1)
    found = checkpoint.load_latest(written, other, fresh)
    assert found is not None
    assert (found.step, found.world, found.parallel) == (2, 4, "fsdp")
    assert torch.equal(found.state["z"], torch.ones(1))
    for name, weight in weights.items():
        assert torch.equal(other[name], weight)
        for key, value in optimizer.state[weight].items():
            assert torch.equal(fresh.state[other[name]][key], value)


def test_a_byte_of_any_shard_is_noticed(written: Path, tmp_path: Path) -> None:
    import shutil

    for name in verify_folder(written / "step-2")["files"]:
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(written, copy)
        flip(copy / "step-2" / name)
        with pytest.raises(Damaged, match=Path(name).name):
            verify_folder(copy / "step-2")
        weights, _ = expected()
        found = checkpoint.load_latest(copy, weights, torch.optim.AdamW(list(weights.values())))
        assert found is not None
        assert found.step == 1


def test_a_full_disk_on_one_rank_ends_all_and_leaves_nothing(tmp_path: Path) -> None:
    ended = start(tmp_path, 2, "full")
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr
    assert names(tmp_path) == []


if __name__ == "__main__":
    program(Path(sys.argv[1]), sys.argv[2])
