"""`train.order`: examples against conversations, for speed and for held-out accuracy.

    python benchmarks/order.py                  # two seeds of each order, alternating
    python benchmarks/order.py --seeds 0 --steps 4

The data is made of the support desk's pairs: conversations of four turns under one system
prompt, each turn a pair whose history holds the chosen answers of the turns before. A fifth of
the conversations is held out. Each run is a fresh process of `palate.train` (LoRA, one epoch,
8 pairs a step, nothing sampled); the reference is computed by the first and read by the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAFFIC = ROOT / "examples" / "support_desk" / "traffic.jsonl"
ORDERS = ("examples", "conversations")
TURNS = 4


def conversations() -> list[dict[str, Any]]:
    """Rows with `prompt`, `chosen`, `rejected`, and the conversation as metadata."""
    import numpy as np

    from palate.config import DataConfig
    from palate.curate.prepare import prepare

    pairs = prepare(DataConfig(path=str(TRAFFIC), heldout=0), 0).train
    shuffled = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    rows = []
    for number in range(len(shuffled) // TURNS):
        opening = shuffled[number * TURNS].prompt
        history = [message.to_dict() for message in opening[:-1]]  # system and greeting
        for pair in shuffled[number * TURNS : (number + 1) * TURNS]:
            history.append(pair.prompt[-1].to_dict())
            chosen, rejected = (
                [message.to_dict() for message in side.messages]
                for side in (pair.chosen, pair.rejected)
            )
            sides = {"prompt": list(history), "chosen": chosen, "rejected": rejected}
            rows.append({**sides, "metadata": {"conversation": f"c{number}"}})
            history += chosen
    return rows


def one(order: str, seed: int, steps: int | None, home: Path) -> dict[str, Any]:
    """Results of one run in this process."""
    from palate.machine import calm_threads

    calm_threads()
    os.environ["PALATE_CACHE"] = str(home / "cache")
    from palate.config import RunConfig
    from palate.run import train

    train_settings = {"order": order, "batch_size": 8, "eval_every": 0, "max_steps": steps}
    config = RunConfig.model_validate(
        {
            "name": f"{order}-{seed}",
            "out": str(home),
            "seed": seed,
            "model": "smollm2-135m-instruct",
            "data": {
                "path": str(home / "pairs.jsonl"),
                "split_by": "tag:conversation",
                "heldout_values": [f"c{i}" for i in range(0, 1000, 5) if i < _count(home)],
            },
            "train": train_settings,
            "evaluate": {"samples": 0},
        }
    )
    results = train(config).results
    heldout = results["heldout"]
    return {
        "pairs_per_second": results["training"]["pairs_per_second"],
        "sharing": results["training"]["sharing"],
        "unique": results["training"]["unique_tokens"] / results["training"]["steps"],
        "accuracy": heldout["accuracy"],
        "margin": heldout["margin"],
        "loss": heldout["loss"],
        "heldout": heldout["n"],
        "train": results["training"]["examples"],
    }


def _count(home: Path) -> int:
    return len((home / "pairs.jsonl").read_text(encoding="utf-8").splitlines()) // TURNS


def main() -> None:
    """Alternate the orders and print a table."""
    parser = argparse.ArgumentParser(description="Examples against whole conversations.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="stop every run after so many steps")
    parser.add_argument("--one", nargs=3, metavar=("ORDER", "SEED", "HOME"))
    args = parser.parse_args()
    if args.one:
        order, seed, home = args.one
        sys.stdout.write(json.dumps(one(order, int(seed), args.steps, Path(home))) + "\n")
        return
    found: dict[str, list[dict[str, Any]]] = {order: [] for order in ORDERS}
    with tempfile.TemporaryDirectory() as home:
        rows = [json.dumps(row, ensure_ascii=False) for row in conversations()]
        (Path(home) / "pairs.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        limit = ["--steps", str(args.steps)] if args.steps else []
        for seed in args.seeds:
            for order in ORDERS:
                command = [sys.executable, __file__, *limit, "--one", order, str(seed), home]
                done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
                if done.returncode:
                    sys.exit(done.stderr)
                found[order].append(json.loads(done.stdout.splitlines()[-1]))
                sys.stderr.write(f"{order} {seed}: {found[order][-1]}\n")
    sys.stdout.write(
        "order | pairs/s (each seed) | sharing | unique tokens a step | held-out accuracy | "
        "margin | loss\n"
    )
    for order, runs in found.items():
        speeds = ", ".join(f"{run['pairs_per_second']:.2f}" for run in runs)
        mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        each = ", ".join(f"{run['accuracy']:.1%}" for run in runs)
        sys.stdout.write(
            f"{order} | {mean['pairs_per_second']:.2f} ({speeds}) | {mean['sharing']:.2f} "
            f"| {mean['unique']:.0f} | {mean['accuracy']:.1%} ({each}) | {mean['margin']:+.2f} "
            f"| {mean['loss']:.3f}\n"
        )


if __name__ == "__main__":
    main()
