"""Time DPO steps on the support desk's pairs: layouts, allocator and threads, side by side.

    python benchmarks/step.py                       # tree against plain, alternating
    python benchmarks/step.py --compare allocator   # tuned against glibc's defaults
    python benchmarks/step.py --compare threads     # sleeping against spinning OpenMP threads
    GOMP_SPINCOUNT=20000 python benchmarks/step.py --one tree   # what the command line sets
    python benchmarks/step.py --one tree            # one process: prints one JSON line

Every measurement is a fresh process, in the order A B A B …; a process loads the model, takes
two steps to warm up and times five. The medians are over processes. A step is what a run does
(racing/ours.py): eight pairs, LoRA of rank 16, forward, backward, clipping, AdamW; the
reference is not in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from racing.duel import Processes
from racing.sample import Entry, Sample
from racing.workloads import Workload, make_course

TRAFFIC = Path(__file__).resolve().parents[1] / "examples" / "support_desk" / "traffic.jsonl"
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


def prepare(folder: Path) -> Entry:
    """Write the support desk's first pairs as a course; the entry of a process that runs it."""
    from palate.machine import fast_bf16
    from palate.model.load import SMOLLM2, load_tokenizer, resolve
    from palate.tokens.render import Renderer

    tokenizer, ends = load_tokenizer(resolve(SMOLLM2))
    workload = Workload("desk", "the support desk's pairs", PAIRS, None)
    renderer = Renderer(tokenizer, end_ids=ends)
    course = make_course(workload, renderer, WARM_UP + TIMED, TRAFFIC)
    course.write(folder / "course.json")
    precision = "mixed" if fast_bf16() else "fp32"
    return Entry(
        "palate", str(folder / "course.json"), resolve(SMOLLM2), "lora", precision, 1e-4, WARM_UP
    )


def summary(sample: Sample) -> dict[str, float]:
    """The steady steps of a process: median seconds, tokens a step, peak."""
    return {
        "seconds": statistics.median(sample.seconds[WARM_UP:]),
        "computed_tokens": statistics.fmean(sample.computed[WARM_UP:]),
        "path_tokens": statistics.fmean(sample.path[WARM_UP:]),
        "peak_gib": sample.peak_bytes / 2**30,
    }


def main() -> None:
    """Alternate fresh processes and print a table."""
    parser = argparse.ArgumentParser(description="Time DPO steps on the support desk's pairs.")
    parser.add_argument("--compare", choices=sorted(COMPARISONS), default="layout")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--one", choices=["tree", "plain"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes({"palate": sys.executable}, Path(folder))
        entry = prepare(Path(folder))
        if args.one:
            found = summary(processes.run(replace(entry, layout=args.one)))
            sys.stdout.write(json.dumps(found) + "\n")
            return
        table: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.rounds):
            for name, layout, environment in COMPARISONS[args.compare]:
                process = replace(processes, environment=environment)
                sample = process.run(replace(entry, layout=layout))
                table.setdefault(name, []).append(summary(sample))
    sys.stdout.write("what | seconds a step (all) | pairs/s | tokens computed | peak GiB\n")
    for name, runs in table.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        every = ", ".join(f"{run['seconds']:.2f}" for run in runs)
        peak = statistics.median(run["peak_gib"] for run in runs)
        sys.stdout.write(
            f"{name} | {seconds:.2f} ({every}) | {PAIRS / seconds:.2f} | "
            f"{runs[0]['computed_tokens']:.0f} | {peak:.1f}\n"
        )


if __name__ == "__main__":
    main()
