"""What `palate doctor` takes as the speed of training, beside what SmolLM2's steps then reach.

    python benchmarks/predicted_time.py                   # adapters, precisions and layouts
    python benchmarks/predicted_time.py --cases lora-bf16-tree full-fp32-plain
    OMP_NUM_THREADS=1 python benchmarks/predicted_time.py --processor

The prediction is doctor's own (`palate.model.speed`): two layers of the model's width. The steps
are of the whole model, forward and backward, over the same eight pairs of the support desk. Both
are the best of three after one that is not timed; they take turns, twice. With `--processor` the
time is the processor's and not the clock's, of one thread: for a machine that is busy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palate.machine import calm_threads, threads, tune_allocator

calm_threads()  # before torch is imported
tune_allocator()

Clock = Callable[[], float]
DESK = Path(__file__).resolve().parents[1] / "examples" / "support_desk"
PAIRS, ROUNDS = 8, 2
CASES = {
    f"{kind}-{precision}-{layout}": (kind, precision, layout)
    for kind in ("lora", "full")
    for precision in ("fp32", "bf16")
    for layout in ("tree", "plain")
}


def pairs() -> Any:
    """Branches of the desk's first pairs."""
    from palate.cli.needs import rendered
    from palate.config import load_config
    from palate.losses.registry import method_of

    config = load_config(str(DESK / "recipe.yaml"), [f"data.path={DESK / 'traffic.jsonl'}"])
    train, _, _ = rendered(config, method_of(config)[0])
    return [branch for one in train[:PAIRS] for branch in one.branches]


def whole(clock: Clock, branches: Any, kind: str, precision: Any, layout: Any) -> float:
    """Operations a second of the model's own steps."""
    from palate.config import AdapterConfig
    from palate.model.cost import anatomy_of, training_flops, work_of
    from palate.model.load import SMOLLM2, load, resolve
    from palate.model.speed import fastest, made_ready
    from palate.tokens.tree import build_forest

    model = load(resolve(SMOLLM2), device="cpu").model
    anatomy = anatomy_of(model.config)
    share = layout == "tree"
    policy = made_ready(model, AdapterConfig(kind=kind), precision, share=share)
    forest = build_forest(branches, share=share)
    flops = training_flops(anatomy, work_of(forest, share=share), lora=kind == "lora")
    return flops / fastest(policy, forest, clock)


def slice_of_it(clock: Clock, branches: Any, kind: str, precision: Any, layout: Any) -> float:
    """What doctor measures."""
    from palate.config import AdapterConfig
    from palate.model.cost import anatomy_of
    from palate.model.load import SMOLLM2, load_config_only, resolve
    from palate.model.speed import measure_speed

    lora = AdapterConfig(kind="lora") if kind == "lora" else None
    anatomy = anatomy_of(load_config_only(resolve(SMOLLM2)))
    share = layout == "tree"
    return measure_speed(anatomy, branches, precision, share=share, lora=lora, clock=clock)


def main() -> None:
    """A line a case: speeds, and the time that doctor would say over the time it took."""
    parser = argparse.ArgumentParser(description="Predicted and measured speed of training.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--processor", action="store_true", help="time of the processor")
    args = parser.parse_args()
    clock = time.process_time if args.processor else time.perf_counter
    import torch

    from palate.model.peak import measure_peak

    torch.set_num_threads(threads())
    peaks = {"fp32": measure_peak(torch.float32), "bf16": measure_peak(torch.bfloat16)}
    branches = pairs()
    sys.stdout.write("case | slice GFLOP/s | model GFLOP/s | of the peak | predicted/measured\n")
    for case in args.cases:
        slices, wholes = [], []
        for _ in range(ROUNDS):
            slices.append(slice_of_it(clock, branches, *CASES[case]))
            wholes.append(whole(clock, branches, *CASES[case]))
        ratios = ", ".join(f"{w / s:.2f}" for s, w in zip(slices, wholes, strict=True))
        share = max(wholes) / peaks[CASES[case][1]]
        sys.stdout.write(
            f"{case} | {max(slices) / 1e9:.0f} | {max(wholes) / 1e9:.0f} | {share:.0%} | {ratios}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
