"""Tensors that are divided over ranks, in files: torch.distributed.checkpoint's own form.

Each rank writes its shards as one safetensors file whose header says where they belong; a reader,
of any number of ranks, fetches what its own shards overlap. Which tensors there are and of what
shape says the checkpoint's manifest. Writing, the ranks meet in a process group of their own, so
that they can do it beside the training; reading, none needs another.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from palate.durable import file_hash

FOLDER = "shards"


def is_divided(tensor: Tensor) -> bool:
    """Whether each rank holds a part of it."""
    return hasattr(tensor, "full_tensor")


def read(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or divided as they are here, from a checkpoint's shards."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this process reads by itself is what we want
        load(
            dict(tensors),
            storage_reader=HuggingFaceStorageReader(str(folder / FOLDER)),
            no_dist=True,
        )


class Divided:
    """Tensors by name of which every rank of `group` writes its part, all together."""

    def __init__(self, tensors: Mapping[str, Tensor], group: Any) -> None:
        self.tensors, self.group = dict(tensors), group
        self._told = False

    def copied(self) -> Divided:
        """The same on the host, which training does not change."""
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        cuda = torch.cuda.is_available()
        stager = DefaultStager(StagingOptions(cuda, False, False, cuda))
        copies: Any = stager.stage(self.tensors)
        return Divided(copies, self.group)

    def write(self, folder: Path) -> dict[str, str]:
        """Rank 0's part: tell the others the folder; returns every shard's checksum by its path.

        Raises `OSError` where any rank's disk refuses.
        """
        self._told = True
        _agree(str(folder), self.group)
        return self._write(folder)

    def join_in(self) -> None:
        """The others' part; nothing where rank 0 gave up before it came so far."""
        folder = _agree("", self.group)
        if folder:
            self._write(Path(folder))

    def give_up(self) -> None:
        """Rank 0 failed: let the others go, if they wait."""
        if not self._told:
            self._told = True
            _agree("", self.group)

    def _write(self, folder: Path) -> dict[str, str]:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        place = folder / FOLDER
        writer = HuggingFaceStorageWriter(str(place), save_distributed=True)
        with _disk_errors():
            save(self.tensors, storage_writer=writer, process_group=self.group)
        rank, world = dist.get_rank(self.group), dist.get_world_size(self.group)
        mine = {
            f"{FOLDER}/{path.name}": file_hash(path)
            for path in place.glob(f"shard-{rank + 1:05d}-*.safetensors")
        }
        sums: list[dict[str, str]] = [{}] * world
        dist.all_gather_object(sums, mine, self.group)
        return {name: checksum for part in sums for name, checksum in part.items()}


def _agree(word: str, group: Any) -> str:
    """What rank 0 says, on all ranks."""
    said = [word]
    dist.broadcast_object_list(said, group_src=0, group=group)
    return said[0]


@contextmanager
def _disk_errors() -> Iterator[None]:
    """The library's exception is no `Exception`, and hides what the rank's system said."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items(), key=lambda item: item[0])
        if isinstance(cause, OSError) and cause.errno is not None:
            raise OSError(cause.errno, cause.strerror, cause.filename) from error
        raise RuntimeError(f"rank {rank} could not write its shards: {cause}") from error
