"""Palate against TRL: the same ids, loss, optimizer and precision, in alternating processes.

    python benchmarks/race.py --workload W3 --quick          # within ten minutes on two cores
    python benchmarks/race.py --workload W3 W4 --rounds 5 --out race.json --chart race.svg
    python benchmarks/race.py --workload W6 --limit 4        # longest sequence in 4 GiB

TRL has an environment of its own, made on the first call (`--trl-env FOLDER` takes one that
is there). Before anything is timed, both sides must get the same loss in fp32. docs/race.md
says what is equal, what is tuned, and how the figures are defined.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from racing.course import Course
from racing.duel import Failed, Processes, alternate, check_equal, same_tokens
from racing.environment import trl_python
from racing.figures import figures, ratio
from racing.longest import race_longest
from racing.report import Race, chart, read_race, table
from racing.sample import Entry, Sample
from racing.tuning import tuned
from racing.workloads import MAX_LENGTH, WORKLOADS, Workload, make_course

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "dpo_en_demo.json"
WARM_UP, TIMED, ROUNDS = 2, 5, 5
QUICK_WARM_UP, QUICK_TIMED, QUICK_ROUNDS = 1, 2, 1
TRL_BATCH = 8  # DPOConfig's per_device_train_batch_size
LR = {"lora": 1e-4, "full": 1e-5}
BASELINES = {"default": ("TRL as it comes",), "tuned": ("TRL tuned",)}
BASELINES["both"] = BASELINES["default"] + BASELINES["tuned"]


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Race Palate against TRL.")
    add = parser.add_argument
    add("--workload", nargs="+", choices=[*WORKLOADS, "W6"], default=["W3"])
    add("--adapter", nargs="+", choices=["lora", "full"], default=["lora"])
    add("--against", choices=sorted(BASELINES), default="both")
    add(
        "--precision",
        choices=["mixed", "pure", "fp32"],
        help="default: mixed, or fp32 without bf16",
    )
    add("--quick", action="store_true", help="one round, fewer and smaller steps")
    add("--rounds", type=int, help=f"processes of each side (default {ROUNDS}, quick 1)")
    add(
        "--steps", type=int, help=f"timed steps of a process (default {TIMED}, quick {QUICK_TIMED})"
    )
    add("--model", default="smollm2-135m-instruct", help="a folder, a hub id or a .gguf file")
    add("--data", type=Path, help="pairs for W3; default: dpo_en_demo.json beside the project")
    add("--limit", type=float, default=4.0, help="GiB of memory for W6")
    add("--batch", type=int, help="pairs in a micro-batch of tuned TRL; default: searched")
    add("--tokens", type=int, help="unique tokens of our micro-batch; default: what a run settles")
    add("--trl-env", help="folder of an environment that has TRL")
    add("--torch-index", help="where pip finds torch for TRL's environment")
    add("--out", type=Path, help="JSON file for everything that was measured")
    add("--chart", type=Path, help="SVG file")
    add("--read", nargs="+", type=Path, help="files of --out: their tables and chart, no race")
    return parser.parse_args()


def main() -> None:
    """Race, print, write."""
    args = arguments()
    if args.read:
        records = [json.loads(path.read_text(encoding="utf-8")) for path in args.read]
        races = [read_race(raw) for record in records for raw in record["races"]]
        for race in races:
            say(table(race) + "\n")
        draw(races, args.chart)
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            record = race_all(args, Path(folder))
    except (ValueError, Failed) as error:
        sys.exit(f"race.py: {error}")
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def race_all(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that was asked for; returns what goes into the JSON file."""
    from palate.config import AdapterConfig
    from palate.model.load import load_tokenizer, resolve
    from palate.tokens.render import Renderer

    processes = Processes(
        {"palate": sys.executable, "trl": trl_python(args.trl_env, args.torch_index, say)}, folder
    )
    model = resolve(args.model)
    tokenizer, ends = load_tokenizer(model)
    renderer = Renderer(tokenizer, max_length=MAX_LENGTH, end_ids=ends)
    default = AdapterConfig()
    precision = args.precision or default_precision()
    if precision == "pure" and "full" in args.adapter:
        raise ValueError("pure bf16 is raced with LoRA only: Palate trains fp32 weights")
    races, details = [], []
    for adapter in args.adapter:
        base = Entry("palate", "", model, adapter, precision, LR[adapter], rank=default.rank)
        base = replace(base, alpha=default.alpha, warm_up=QUICK_WARM_UP if args.quick else WARM_UP)
        for name in args.workload:
            if name == "W6":
                details.append(
                    race_longest(processes, renderer, base, int(args.limit * 2**30), say)
                )
                continue
            race, detail = race_one(args, processes, WORKLOADS[name], renderer, base)
            races.append(race)
            details.append(detail)
            say(table(race) + "\n")
    draw(races, args.chart)
    return {"machine": machine(), "command": sys.argv[1:], "races": details}


def draw(races: list[Race], path: Path | None) -> None:
    """The chart, where one is wanted and there is something to draw."""
    if path and races:
        path.write_text(chart(races), encoding="utf-8")


def race_one(
    args: argparse.Namespace, processes: Processes, workload: Workload, renderer: Any, base: Entry
) -> tuple[Race, dict[str, Any]]:
    """One workload with one adapter: gate, tuning, rounds, figures."""
    timed = args.steps or (QUICK_TIMED if args.quick else TIMED)
    if args.quick and workload.quick_pairs:
        workload = replace(workload, pairs=workload.quick_pairs)
    data = args.data or (DATA if DATA.is_file() else None)
    course = make_course(workload, renderer, base.warm_up + timed, data)
    path = processes.folder / f"{workload.name}.json"
    course.write(path)
    source = data.name if data and workload.lengths is None else "generated text"
    say(f"{workload.name}, {workload.about} ({source}), {base.adapter}, {base.precision}")
    base = replace(base, course=str(path), tokens=args.tokens)
    part = workload.quick_part if args.quick else workload.part
    batch = min(TRL_BATCH, part or workload.pairs)
    other = replace(base, side="trl", pairs=part, batch=batch, limit=memory_bound())
    gate = check_equal(processes, course, {"palate": base, "trl": other}, say)
    entries = {"Palate": base}
    for baseline in BASELINES[args.against]:
        comes = baseline == "TRL as it comes"
        entries[baseline] = (
            other if comes else tuned(processes, course, other, args.batch, args.quick, say)
        )
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    samples = alternate(processes, entries, rounds, say)
    race = summarise(workload, course, entries, samples)
    detail = {
        **race.to_json(),
        "digest": course.digest(),
        "gate": gate,
        "data": source,
        "entries": {name: asdict(entry) for name, entry in entries.items()},
        "samples": {name: [asdict(s) for s in found] for name, found in samples.items()},
    }
    return race, detail


def summarise(
    workload: Workload, course: Course, entries: dict[str, Entry], samples: dict[str, list[Sample]]
) -> Race:
    """Check that all samples trained on the same tokens, and do the arithmetic."""
    for name, found in samples.items():
        for sample in found:
            same_tokens(course, entries[name], sample)
    ours = samples["Palate"]
    sides = {name: figures(found, entries[name], course, ours) for name, found in samples.items()}
    ratios = {name: ratio(sides["Palate"], f) for name, f in sides.items() if name != "Palate"}
    base = entries["Palate"]
    return Race(workload.name, workload.about, base.adapter, base.precision, sides, ratios)


def default_precision() -> str:
    """`mixed` where the hardware is fast at bf16."""
    import torch

    from palate.machine import fast_bf16

    return "mixed" if torch.cuda.is_available() or fast_bf16() else "fp32"


def memory_bound() -> int | None:
    """Bytes that TRL may take on a CPU: a batch that does not fit then fails by itself."""
    import torch

    from palate.machine import memory_limit

    return None if torch.cuda.is_available() else int(0.9 * memory_limit())


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    from palate.machine import describe

    found: dict[str, Any] = asdict(describe())
    found["torch"] = torch.__version__
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    found["platform"] = platform.platform()
    git = subprocess.run(  # noqa: S603 our own arguments
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"],  # noqa: S607 whichever git is there
        capture_output=True,
        text=True,
        check=False,
    )
    found["commit"] = git.stdout.strip() or None
    return found


if __name__ == "__main__":
    main()
