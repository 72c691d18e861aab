"""How long training stands still for a checkpoint, and what writing beside it costs the steps.

    python benchmarks/saving.py        # LoRA and full, SmolLM2 on the support desk's pairs
    python benchmarks/saving.py --cases lora --steps 8

A checkpoint is begun after every other step, so that steps with a writer beside them alternate
with steps without. `pause` is what the loop waits for (`Saver.save`: the copy in memory, and the
end of the checkpoint before, which was due two steps earlier); `write` is what a loop that writes
by itself would wait for: the thread's whole time, checksums and flushes included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DESK = Path(__file__).resolve().parents[1] / "examples" / "support_desk"


def recipe(case: str, out: str, steps: int) -> Any:
    """The run of a case: eight pairs a step, a line of metrics for each."""
    from palate.config import RunConfig

    return RunConfig.model_validate(
        {
            "name": case,
            "out": out,
            "model": "smollm2-135m-instruct",
            "data": {"path": str(DESK / "traffic.jsonl"), "heldout": 0, "max_pairs": 8 * steps},
            "adapter": {"kind": case},
            "train": {
                "max_steps": steps,
                "eval_every": 0,
                "log_every": 1,
                "save_every": 2,
                "batch_size": 8,
            },
            "evaluate": {"samples": 0},
        }
    )


def measure(case: str, steps: int) -> dict[str, Any]:
    """One run, with its saves timed."""
    from palate import run
    from palate.train import loop
    from palate.train.metrics import read_metrics
    from palate.train.saving import Saver

    pauses: list[float] = []
    writes: list[float] = []

    class Timed(Saver):
        def save(self, *rest: Any) -> None:
            began = time.perf_counter()
            super().save(*rest)
            pauses.append(time.perf_counter() - began)

        def _begin(self, work: Callable[[], None]) -> None:
            def timed() -> None:
                began = time.perf_counter()
                work()
                writes.append(time.perf_counter() - began)

            super()._begin(timed)

    loop.Saver = Timed  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as out:
        done = run.train(recipe(case, out, steps))
        lines = read_metrics(done.folder / "metrics.jsonl")
        newest = max((done.folder / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime)
        size = sum(p.stat().st_size for p in newest.rglob("*") if p.is_file())
    seconds = {n["step"]: n["seconds"] for n in lines if n["kind"] == "train"}
    # Step 1 warms up. A save after step 2k is written beside step 2k + 1.
    beside = [seconds[step] for step in range(3, steps + 1, 2)]
    free = [seconds[step] for step in range(2, steps + 1, 2)]
    step = statistics.median(free)
    return {
        "case": case,
        "checkpoint_mib": round(size / 2**20, 1),
        "step_s": round(step, 2),
        "step_beside_a_writer_s": round(statistics.median(beside), 2),
        "pause_s": round(statistics.median(pauses), 4),
        "pause_of_a_step": round(statistics.median(pauses) / step, 4),
        "write_s": round(statistics.median(writes), 2) if writes else None,
        "in_the_background": len(writes),
        "saves": len(pauses),
    }


def main() -> None:
    """Print one JSON line a case."""
    from palate.machine import calm_threads

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["lora", "full"])
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args()
    calm_threads()
    for case in chosen.cases:
        sys.stdout.write(json.dumps(measure(case, chosen.steps)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
