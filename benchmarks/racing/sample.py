"""What a process of a race is told, and what it answers; the standard library only."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One process: which side, on which course, how.

    `precision`: `mixed` is fp32 weights under bf16 autocast, `pure` bf16 weights, `fp32`
    neither. `gate` perturbs the weights the same way on both sides, so that the first loss is
    not the ln 2 that any two programs agree on. `pairs` cuts every step to
    its first pairs, `steps` the course to its first steps. `rank` and `alpha` are the
    adapter's. `limit` bounds the process's memory in bytes. `layout` is the recipe's
    `train.layout` and `tokens` its `train.tokens_per_microbatch`, of our side only.

    Of the other side only: `batch` pairs in a micro-batch, `checkpointing`, `precompute` the
    reference, `tuned` allocator, threads and order.
    """

    side: str
    course: str
    model: str
    adapter: str
    precision: str
    lr: float
    warm_up: int = 2
    rank: int = 16
    alpha: float = 32.0
    gate: str | None = None
    pairs: int | None = None
    steps: int | None = None
    eps: float = 1e-8
    limit: int | None = None
    layout: str = "auto"
    tokens: int | None = None
    batch: int = 8
    checkpointing: bool = True
    precompute: bool = False
    tuned: bool = False


@dataclass(slots=True)
class Sample:
    """What a process measured: one entry a step in the lists, warm-up steps included.

    `seconds` are whole steps; `optimizer_seconds` the part after the last backward pass.
    `computed` counts tokens that went through the model, `path` the pairs' own tokens,
    `unique` those of the smallest forest that holds the step's pairs.
    `flops` are the least operations of each step. The reference pass took
    `reference_seconds` over `reference_pairs`, 0 where it is inside the steps.
    """

    digest: str
    seconds: list[float] = field(default_factory=list)
    optimizer_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    path: list[int] = field(default_factory=list)
    unique: list[int] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    reference_seconds: float = 0.0
    reference_flops: float = 0.0
    reference_pairs: int = 0
    peak_bytes: int = 0
    matmul_peak: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def read_entry(path: Path) -> Entry:
    """From the file that `write` made."""
    return Entry(**json.loads(path.read_text(encoding="utf-8")))


def read_sample(path: Path) -> Sample:
    """From the file that `write` made."""
    return Sample(**json.loads(path.read_text(encoding="utf-8")))


def write(value: Entry | Sample, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(value)), encoding="utf-8")


def limit_memory(size: int | None) -> None:
    """Bound this process's private writable memory (RLIMIT_DATA), where a limit is wanted.

    On CUDA the device's allocator is bounded instead: the driver maps far more than it uses.
    """
    if size is None:
        return
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def resident_peak() -> int:
    """The largest resident memory of this process so far, in bytes.

    Read from the kernel's own record of this program: `ru_maxrss` begins with the memory of
    the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
