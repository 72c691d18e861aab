"""Faults of one rank: it fails, dies, stops, hangs, is slow, or meets numbers that are none."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from palate.train.parallel import Ranks
from palate.train.shapes import MicroBatch
from palate.train.task import Split, Task


@dataclass(frozen=True, slots=True)
class Harm:
    """What happens to `rank` (from the end where negative) in optimizer step `step`, from 1.

    `how`: `error`, `nan` and `inf` (of the loss), `gradient` (an infinite one), `memory` (that runs
    out in the middle of a backward pass), `kill`, `stop` (SIGSTOP), `sleep` and `busy` without end;
    with `seconds`, for so long. `delay` seconds after the step's first look at the reference `kill`
    and `stop` strike, wherever the rank is then. Before the first step, `solo`: rank 0 works for
    `seconds` while the others wait for it, and `solo-stop`: and while `rank` is stopped.
    """

    how: str
    rank: int = -1
    step: int = 1
    seconds: float = 1e9
    delay: float = 0.0


def harmed(task: Task, harm: Harm) -> tuple[Task, Callable[[], bool]]:
    """The task, and a `should_stop` that counts its steps."""
    done = 0

    def count() -> bool:
        nonlocal done
        done += 1
        return False

    if task.ranks.rank != harm.rank % task.ranks.world:
        return task, count
    inner, struck = task.train.reference, False
    assert inner is not None

    def reference(micro: MicroBatch) -> Tensor:
        nonlocal struck
        values = inner(micro)
        if done + 1 != harm.step or struck:
            return values
        struck = True
        return values * _strike(task, harm)

    split = Split(task.train.examples, reference)
    return replace(task, train=split), count


def before(ranks: Ranks, harm: Harm) -> bool:
    """What happens before the first step, if that is when; whether it is."""
    if not harm.how.startswith("solo"):
        return False
    if harm.how == "solo-stop" and ranks.rank == harm.rank % ranks.world:
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.on_main(lambda: time.sleep(harm.seconds))
    return True


def _strike(task: Task, harm: Harm) -> float:
    """Do the harm, and leave word of when; what the reference is multiplied by."""
    (task.folder / "struck").touch()
    if harm.how == "error":
        raise ValueError("row 7 has no log-probs")
    if harm.how in {"nan", "inf"}:
        return float(harm.how)
    if harm.how == "gradient":
        _at_next_gradient(task, lambda grad: torch.full_like(grad, torch.inf))
    elif harm.how == "memory":
        _at_next_gradient(task, _run_out)
    elif harm.how in {"kill", "stop"}:
        number = signal.SIGKILL if harm.how == "kill" else signal.SIGSTOP
        threading.Timer(harm.delay, os.kill, (os.getpid(), number)).start()
    else:
        end = time.monotonic() + harm.seconds
        while time.monotonic() < end:
            if harm.how == "sleep":
                time.sleep(0.05)
    return 1.0


def _run_out(grad: Tensor) -> Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def _at_next_gradient(task: Task, change: Callable[[Tensor], Tensor]) -> None:
    """Of the body's output, in the next backward pass, which goes on from what `change` gives."""

    def take(_module: nn.Module, _args: Any, output: Any) -> None:
        handle.remove()
        if output.last_hidden_state.requires_grad:
            output.last_hidden_state.register_hook(change)

    handle = task.policy.model.get_decoder().register_forward_hook(take)
