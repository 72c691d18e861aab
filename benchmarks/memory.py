"""What `palate doctor` predicts for a run's peak memory, beside what the run then takes.

    python benchmarks/memory.py                      # all cases: a fresh process for each
    python benchmarks/memory.py --cases lora-bf16    # those whose name begins so
    python benchmarks/memory.py --recalibrate        # and the allowance that would fit them best

A run is a whole one, as `palate train` does it: the reference, the trial of the largest
micro-batch, two steps of the support desk, measurements, answers, and the model
that ships. Its peak is the resident set's (`VmHWM`) of its process; the prediction is made
before, in a process of its own, by the code behind `palate doctor`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DESK = ROOT / "examples" / "support_desk"
GIB = 2**30
CASES = {
    f"{kind}-{precision}-{budget}": {
        "adapter": {"kind": kind},
        "train": {
            "precision": precision,
            "tokens_per_microbatch": budget,
            "batch_size": budget // 93,  # pairs that fill a micro-batch, and some more
        },
    }
    for kind in ("lora", "full")
    for precision in ("bf16", "fp32")
    for budget in (1024, 4096)
}


def recipe(case: str, out: str) -> Any:
    """The run of a case."""
    from palate.config import RunConfig

    settings = CASES[case]
    return RunConfig.model_validate(
        {
            "name": case,
            "out": out,
            "model": "smollm2-135m-instruct",
            "data": {
                "path": str(DESK / "traffic.jsonl"),
                "split_by": "tag:template",
                "heldout": 0.1,
                "max_pairs": 2 * settings["train"]["batch_size"] + 4,
            },
            "adapter": settings["adapter"],
            "train": {"max_steps": 2, "eval_every": 0, **settings["train"]},
            "evaluate": {"samples": 4, "max_new_tokens": 16},
        }
    )


def predict(case: str) -> dict[str, Any]:
    """What doctor says, in bytes."""
    from palate.cli.health import Health
    from palate.cli.needs import estimate

    config = recipe(case, "runs")
    peaks = {"fp32": 1e12, "bf16": 1e12}  # of matrix products; time is not asked for
    health = Health([], [], None, 0, "cpu", config.train.precision, peaks)
    needs = estimate(config, health)
    return {"predicted": needs.memory.total, "tokens": needs.work.largest.unique}


def measure(case: str) -> dict[str, Any]:
    """The peak of this process after a whole run, in bytes."""
    from palate.machine import calm_threads

    calm_threads()
    from palate.run import train

    with tempfile.TemporaryDirectory() as home:
        os.environ["PALATE_CACHE"] = str(Path(home) / "cache")
        train(recipe(case, home))
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return {"measured": int(peak) * 1024}


def in_a_fresh_process(what: str, case: str) -> dict[str, Any]:
    """One JSON line of this file, called with `--predict CASE` or `--measure CASE`."""
    command = [sys.executable, __file__, what, case]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{case}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """A table of predictions and measurements, one run after the other."""
    parser = argparse.ArgumentParser(description="Predicted and measured peak memory.")
    parser.add_argument("--cases", default="", help="only cases whose name begins so")
    parser.add_argument("--recalibrate", action="store_true")
    parser.add_argument("--predict", choices=CASES)
    parser.add_argument("--measure", choices=CASES)
    args = parser.parse_args()
    if args.predict or args.measure:
        found = predict(args.predict) if args.predict else measure(args.measure)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write("run | tokens, largest micro-batch | predicted GiB | measured GiB | error\n")
    ratios = []
    for case in (name for name in CASES if name.startswith(args.cases)):
        row = in_a_fresh_process("--predict", case) | in_a_fresh_process("--measure", case)
        ratios.append(row["measured"] / row["predicted"])
        sys.stdout.write(
            f"{case} | {row['tokens']:.0f} | {row['predicted'] / GIB:.2f} "
            f"| {row['measured'] / GIB:.2f} | {row['predicted'] / row['measured'] - 1:+.0%}\n"
        )
        sys.stdout.flush()
    if args.recalibrate:
        from palate.model.memory import ALLOWANCE

        middle = (min(ratios) * max(ratios)) ** 0.5
        sys.stdout.write(
            f"measured/predicted from {min(ratios):.2f} to {max(ratios):.2f}: ALLOWANCE in "
            f"palate/model/memory.py is {ALLOWANCE}, {ALLOWANCE * middle:.2f} would fit best\n"
        )


if __name__ == "__main__":
    main()
