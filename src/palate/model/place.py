"""Where a model computes, and in which precision."""

from __future__ import annotations

import torch

from palate.config import ConfigError
from palate.machine import fast_bf16
from palate.model.policy import Precision


def pick_device(wanted: str, setting: str = "train.device") -> str:
    """The device that `auto` stands for; raises `ConfigError` for one that is not there.

    `setting` is the name under which the user said it.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = wanted.split(":", maxsplit=1)[0]
    if kind not in {"cpu", "cuda", "mps"}:
        raise ConfigError(f"{setting} '{wanted}' is not one of auto, cpu, cuda, cuda:N, mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{setting} is cuda, but torch sees no CUDA device: use cpu or auto")
    if kind == "cuda" and wanted != "cuda":
        names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if wanted not in names:
            raise ConfigError(f"{setting} is {wanted}, but there is only {', '.join(names)}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{setting} is mps, but torch sees no mps device: use cpu or auto")
    return wanted


def pick_precision(wanted: str, device: str) -> Precision:
    """bf16 where the hardware is fast at it, fp32 otherwise, unless the recipe says."""
    if wanted == "auto":
        fast = device.startswith("cuda") or (device == "cpu" and fast_bf16())
        return "bf16" if fast else "fp32"
    return "bf16" if wanted == "bf16" else "fp32"
