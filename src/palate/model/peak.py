"""The matrix-product peak of a device, measured: what estimates and fractions are taken of."""

from __future__ import annotations

import time

import torch

_SIZES = (256, 512, 1024, 2048)


def measure_peak(
    dtype: torch.dtype,
    device: str = "cpu",
    budget: float = 0.5,
    sizes: tuple[int, ...] = _SIZES,
) -> float:
    """Operations a second of a square matrix product, the best seen in about `budget` seconds.

    Larger matrices are tried as long as one product stays a small part of the budget. What
    else the machine does meanwhile counts: the figure is a lower bound.
    """
    began, best = time.perf_counter(), 0.0
    for size in sizes:
        left = torch.ones(size, size, dtype=dtype, device=device)
        right = torch.ones(size, size, dtype=dtype, device=device)
        product = torch.mm(left, right)  # the first one also builds the kernel
        wait_for(device)
        for _ in range(1000):
            start = time.perf_counter()
            torch.mm(left, right, out=product)
            wait_for(device)
            took = time.perf_counter() - start
            best = max(best, 2 * size**3 / took)
            elapsed = time.perf_counter() - began
            if elapsed > budget * (sizes.index(size) + 1) / len(sizes):
                break
        if 8 * took > budget - elapsed:
            break
    return best


def wait_for(device: str) -> None:
    """Until what was asked of the device is computed."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
