"""Saving beside the training: the loop hands over what a checkpoint holds, a thread writes it.

What the loop waits for is a copy of the trained weights and their moments in memory. One checkpoint
is written at a time: a save that comes before the last one is on the disk waits for that. An
error of the disk reaches the loop at its next step, and at the latest before anything relies on
the checkpoint, which is there once `settle` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.losses.batch import State
from palate.machine import free_memory
from palate.train.checkpoint import Staged, stage, write
from palate.train.parallel import ALONE, Ranks

# Copies may take this part of the memory that is free; with less, the loop waits for the disk.
_SHARE = 0.25
# Seconds that an error waits for a checkpoint which other ranks must help to write.
_LINGER = 30.0


class Saver:
    """Writes checkpoints below `root`, and keeps the newest `keep`. All ranks have one."""

    def __init__(self, root: Path, keep: int, ranks: Ranks = ALONE) -> None:
        self.root, self.keep, self.ranks = root, keep, ranks
        self._pending: Future[None] | None = None
        self._thread: threading.Thread | None = None

    def save(
        self,
        step: int,
        weights: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        state: State,
        waiting: Mapping[str, Any],
    ) -> None:
        """Begin the checkpoint of a step; what is given may change as soon as this returns.

        `waiting` is as for `palate.train.checkpoint.stage`. Raises what the one before met.
        """
        self.settle()
        staged = stage(step, weights, optimizer, state, waiting, self.ranks)
        if not self.ranks.is_main and staged.divided is None:
            return
        if staged.divided is None and not _have_room(staged):
            self._write(staged)
            return
        copied, arrived = _copied(staged)

        def work() -> None:
            arrived()
            self._write(copied)

        self._begin(work)

    def check(self) -> None:
        """Raise what the last save met, if it has ended; waits for nothing."""
        if self._pending is not None and self._pending.done():
            self.settle()

    def settle(self) -> None:
        """Wait until what was handed over is on the disk, or raise why it is not."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> BaseException | None:
        """Let the last save end, after an error elsewhere; returns what it met itself."""
        pending, self._pending = self._pending, None
        if pending is None or self._thread is None:
            return None
        self._thread.join(None if self.ranks.world == 1 else _LINGER)
        return pending.exception() if pending.done() else None

    def _write(self, staged: Staged) -> None:
        if self.ranks.is_main:
            write(self.root, staged, self.keep)
        elif staged.divided is not None:
            staged.divided.join_in()

    def _begin(self, work: Callable[[], None]) -> None:
        pending: Future[None] = Future()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed on to the loop
                pending.set_exception(error)
            else:
                pending.set_result(None)

        # A thread that ends with the process: what it leaves half done is nobody's checkpoint.
        self._thread = threading.Thread(target=run, name="palate-save", daemon=True)
        self._pending = pending
        self._thread.start()


def _tensors(staged: Staged) -> Iterable[Tensor]:
    return (tensor for inside in staged.files.values() for tensor in inside.values())


def _have_room(staged: Staged) -> bool:
    free = free_memory()
    return free is None or sum(tensor.nbytes for tensor in _tensors(staged)) <= _SHARE * free


@torch.no_grad()
def _copied(staged: Staged) -> tuple[Staged, Callable[[], None]]:
    """The same on the host, and how to wait until it has arrived there from a device."""
    files = {
        file: {name: _on_host(tensor) for name, tensor in inside.items()}
        for file, inside in staged.files.items()
    }
    divided = staged.divided.copied() if staged.divided is not None else None
    arrived: Callable[[], None] = lambda: None  # noqa: E731
    if any(tensor.is_cuda for tensor in _tensors(staged)):
        event = torch.cuda.Event()
        event.record()
        arrived = event.synchronize
    return replace(staged, files=files, divided=divided), arrived


def _on_host(tensor: Tensor) -> Tensor:
    """A copy; from a GPU it is on its way, behind what the GPU was given before."""
    if not tensor.is_cuda:
        return tensor.cpu() if tensor.device.type != "cpu" else tensor.clone()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
