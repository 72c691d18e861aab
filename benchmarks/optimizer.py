"""Time one AdamW step on the shapes of a model's trained weights, LoRA and full.

    python benchmarks/optimizer.py                  # SmolLM2-135M's shapes, on the CPU
    python benchmarks/optimizer.py --device cuda

torch's AdamW with `fused` and with `foreach`, and ours with 8-bit moments and with bf16 weights;
medians in milliseconds. Beside the time, the bytes of state for each weight.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS, WARM_UP = 7, 2


def shapes(rank: int = 16) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of SmolLM2-135M's weights, and of LoRA matrices beside its linear layers."""
    width, inner, keys, layers, vocabulary = 576, 1536, 192, 30, 49152
    matrices = [
        (width, width),
        (keys, width),
        (keys, width),
        (width, width),
        (inner, width),
        (inner, width),
        (width, inner),
    ]
    full: list[tuple[int, ...]] = [(vocabulary, width), (width,)]
    full += [*matrices, (width,), (width,)] * layers
    lora = [shape for out, into in matrices for shape in ((rank, into), (out, rank))] * layers
    return {"lora": lora, "full": full}


def optimizers(sizes: list[tuple[int, ...]], device: str) -> dict[str, Callable[[], Any]]:
    """How to make each kind, over weights of its own with gradients in place."""
    import torch

    from palate.config import OptimConfig
    from palate.train.optimizer import make_adamw

    def weights(dtype: torch.dtype) -> dict[str, Any]:
        torch.manual_seed(0)
        found = {}
        for number, size in enumerate(sizes):
            weight = torch.nn.Parameter(torch.randn(size, device=device).to(dtype))
            weight.grad_dtype = torch.float32
            weight.grad = torch.randn(size, device=device)
            found[str(number)] = weight
        return found

    full, settings = torch.float32, {"lr": 1e-4}
    plain, small = OptimConfig(), OptimConfig(name="adamw8bit")
    return {
        "fused": lambda: torch.optim.AdamW(weights(full).values(), **settings, fused=True),
        "foreach": lambda: torch.optim.AdamW(weights(full).values(), **settings, foreach=True),
        "8-bit moments": lambda: make_adamw(weights(full), small, 1e-4),
        "bf16 weights": lambda: make_adamw(weights(torch.bfloat16), plain, 1e-4),
        "both": lambda: make_adamw(weights(torch.bfloat16), small, 1e-4),
    }


def main() -> None:
    """Print a line for each optimizer and set of shapes."""
    parser = argparse.ArgumentParser(description="Time AdamW steps.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: one a core")
    args = parser.parse_args()
    from palate.machine import threads, tune_allocator

    tune_allocator()
    import torch

    torch.set_num_threads(args.threads or threads())
    for what, sizes in shapes().items():
        for name, make in optimizers(sizes, args.device).items():
            optimizer, times = make(), []
            for _ in range(WARM_UP + ROUNDS):
                began = time.perf_counter()
                optimizer.step()
                if args.device.startswith("cuda"):
                    torch.cuda.synchronize(args.device)
                times.append(time.perf_counter() - began)
            held = [t for state in optimizer.state.values() for t in state.values()]
            count = sum(w.numel() for group in optimizer.param_groups for w in group["params"])
            size = sum(t.numel() * t.element_size() for t in held) / count
            middle = 1e3 * statistics.median(times[WARM_UP:])
            sys.stdout.write(
                f"{what}, {count / 1e6:.1f}M weights, {name}: {middle:.1f} ms, {size:.2f} bytes of "
                "state a weight\n"
            )


if __name__ == "__main__":
    main()
