"""Time DPO steps on the support desk's pairs: layouts, allocator and threads, side by side.

    python benchmarks/step.py                       # tree against plain, alternating
    python benchmarks/step.py --compare allocator   # tuned against glibc's defaults
    python benchmarks/step.py --compare threads     # sleeping against spinning OpenMP threads
    GOMP_SPINCOUNT=20000 python benchmarks/step.py --one tree   # what the command line sets
    python benchmarks/step.py --one tree            # one process: prints one JSON line

Every measurement is a fresh process, in the order A B A B …; a process loads the model, takes
two steps to warm up and times five. The medians are over processes. A step is what a run does:
eight pairs, LoRA of rank 16, forward, backward, clipping, AdamW; the reference is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAFFIC = ROOT / "examples" / "support_desk" / "traffic.jsonl"
WARM_UP, TIMED, PAIRS = 2, 5, 8

COMPARISONS: dict[str, tuple[tuple[str, str, dict[str, str]], ...]] = {
    "layout": (("tree", "tree", {}), ("plain", "plain", {})),
    "allocator": (
        ("tuned", "tree", {}),
        ("glibc's defaults", "tree", {"PALATE_ALLOCATOR": "default"}),
    ),
    "threads": (
        ("sleeping", "tree", {"OMP_WAIT_POLICY": "PASSIVE"}),
        ("spinning", "tree", {"OMP_WAIT_POLICY": "ACTIVE"}),
    ),
}


def one(layout: str) -> dict[str, float]:
    """Times of this process's steps, in seconds, and what they computed."""
    from palate.machine import calm_threads, threads, tune_allocator

    calm_threads()
    tune_allocator()
    import torch

    from palate.config import AdapterConfig, DataConfig, OptimConfig
    from palate.curate.prepare import prepare
    from palate.losses.registry import METHODS
    from palate.model.adapters import attach, trainable
    from palate.model.load import SMOLLM2, load, to_compute
    from palate.model.policy import Policy
    from palate.run import oriented
    from palate.tokens.render import Renderer
    from palate.tokens.sampler import cut
    from palate.train.optimizer import clip_gradients, make_adamw
    from palate.train.setup import pick_precision
    from palate.train.step import compute_step, pack

    torch.set_num_threads(threads())
    loaded = load(SMOLLM2)
    attach(loaded.model, AdapterConfig(), 0)
    precision = pick_precision("auto", "cpu")
    to_compute(loaded.model, precision)
    share = layout == "tree"
    policy = Policy(loaded.model, layout="tree" if share else "plain", precision=precision)
    renderer = Renderer(loaded.tokenizer, end_ids=loaded.end_ids)
    count = (WARM_UP + TIMED) * PAIRS
    data = DataConfig(path=str(TRAFFIC), heldout=0, max_pairs=count)
    examples = [renderer.render(oriented(e, "pair")) for e in prepare(data, 0).train]
    weights = trainable(policy)
    optimizer = make_adamw(weights, OptimConfig(), 1e-4)
    method = METHODS["dpo"]
    times, unique, path = [], 0, 0
    for step in range(WARM_UP + TIMED):
        rows = list(range(step * PAIRS, (step + 1) * PAIRS))
        began = time.perf_counter()
        cuts = cut(examples, rows, 4096, share=share)
        batches = pack(examples, rows, cuts, share=share, device=policy.device)
        optimizer.zero_grad(set_to_none=True)
        result = compute_step(
            policy,
            method,
            method.params(),
            batches,
            lambda m: torch.zeros(len(m.forest.predictions_N)),
            {},
        )
        clip_gradients(weights.values(), 1.0)
        optimizer.step()
        if step >= WARM_UP:
            times.append(time.perf_counter() - began)
            unique, path = unique + result.unique_tokens, path + result.path_tokens
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": statistics.median(times),
        "unique_tokens": unique / TIMED,
        "path_tokens": path / TIMED,
        "peak_gib": peak,
    }


def main() -> None:
    """Alternate fresh processes and print a table."""
    parser = argparse.ArgumentParser(description="Time DPO steps on the support desk's pairs.")
    parser.add_argument("--compare", choices=sorted(COMPARISONS), default="layout")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--one", choices=["tree", "plain"])
    args = parser.parse_args()
    if args.one:
        sys.stdout.write(json.dumps(one(args.one)) + "\n")
        return
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for name, layout, environment in COMPARISONS[args.compare]:
            command = [sys.executable, __file__, "--one", layout]
            done = subprocess.run(  # noqa: S603 our own file
                command,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            )
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    sys.stdout.write("what | seconds a step (all) | pairs/s | tokens computed | peak GiB\n")
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        every = ", ".join(f"{run['seconds']:.2f}" for run in runs)
        key = "path_tokens" if name == "plain" else "unique_tokens"
        peak = statistics.median(run["peak_gib"] for run in runs)
        sys.stdout.write(
            f"{name} | {seconds:.2f} ({every}) | {PAIRS / seconds:.2f} | {runs[0][key]:.0f} "
            f"| {peak:.1f}\n"
        )


if __name__ == "__main__":
    main()
