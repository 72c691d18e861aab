"""Methods side by side on the same data: held-out accuracy, rule score, KL, length, time, memory.

    python benchmarks/methods.py --out runs/methods                    # all cells, hours on 2 cores
    python benchmarks/methods.py --out runs/methods --seeds 0 --data desk
    python benchmarks/methods.py --out runs/methods --table            # what there is so far

A cell is a whole `palate train` in a fresh process: a data set, a method, a seed. A cell whose
results are there is not run again, and one that was interrupted goes on. "20 % flipped" means that
a fifth of the training pairs, the same for every method, have their answers exchanged; held-out
pairs are never flipped. The table says which cells were not run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.trained import train

ROOT = Path(__file__).resolve().parents[1]
DESK = ROOT / "examples" / "support_desk"
POLITE = ROOT.parent / "shared" / "data" / "polite_pairs.json"
FLIPPED = 0.2
STEPS, PAIRS = 40, 8
GIB = 2**30


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    label: str
    method: dict[str, Any]
    flipped: bool = False


ENTRIES = (
    Entry("dpo", {"name": "dpo"}),
    Entry("ipo", {"name": "ipo"}),
    Entry("kto", {"name": "kto"}),
    Entry("orpo", {"name": "orpo"}),
    Entry("simpo", {"name": "simpo"}),
    Entry("apo-zero", {"name": "apo-zero"}),
    Entry("sft", {"name": "sft"}),
    Entry("dpo, 20 % flipped", {"name": "dpo"}, flipped=True),
    Entry("cdpo, 20 % flipped", {"name": "cdpo", "epsilon": FLIPPED}, flipped=True),
    Entry("robust-dpo, 20 % flipped", {"name": "robust-dpo", "epsilon": FLIPPED}, flipped=True),
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Methods side by side on the same data.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cells")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=["desk", "polite"], default=["desk", "polite"])
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="rows whose label begins so")
    parser.add_argument("--table", action="store_true", help="run nothing, print what there is")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, then print the tables."""
    args = arguments()
    wanted = [e for e in ENTRIES if not args.only or e.label.startswith(tuple(args.only))]
    sets = [name for name in args.data if name == "desk" or POLITE.is_file()]
    for name in sorted(set(args.data) - set(sets)):
        sys.stderr.write(f"{name} is left out: there is no {POLITE}\n")
    if not args.table:
        for name in sets:
            prepare_data(name, args.out)
        for seed in args.seeds:
            for name in sets:
                for entry in wanted:
                    run(cell(name, entry, seed, args.out))
    for name in sets:
        sys.stdout.write(table(name, wanted, args.seeds, args.out) + "\n")


def prepare_data(name: str, out: Path) -> None:
    """Both files of a data set, whose rows say on which side of the split they are."""
    import numpy as np

    from palate.config import DataConfig
    from palate.curate.prepare import prepare

    out.mkdir(parents=True, exist_ok=True)
    if name == "desk":
        source = DataConfig(path=str(DESK / "traffic.jsonl"), split_by="tag:template", heldout=0.15)
    else:
        source = DataConfig(path=str(POLITE), heldout=0.15)
    prepared = prepare(source, 0)
    rows = [pair(e, "train") for e in prepared.train] + [
        pair(e, "heldout") for e in prepared.heldout
    ]
    train = len(prepared.train)
    # Not default_rng(0): a run of seed 0 draws its order from that, and met all of them first.
    drawn = np.random.default_rng((0, train)).permutation(train)
    flipped = set(drawn[: round(FLIPPED * train)].tolist())
    wrong = [exchanged(row) if i in flipped else row for i, row in enumerate(rows)]
    random.Random(0).shuffle(rows)
    for path, lines in ((out / f"{name}.jsonl", rows), (out / f"{name}-flipped.jsonl", wrong)):
        if not path.is_file():
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def pair(example: Any, side: str) -> dict[str, Any]:
    """A record as a row of TRL's form."""
    return {
        "prompt": [message.to_dict() for message in example.prompt],
        "chosen": [message.to_dict() for message in example.chosen.messages],
        "rejected": [message.to_dict() for message in example.rejected.messages],
        "metadata": {"side": side},
    }


def exchanged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its answers the wrong way round."""
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def cell(data: str, entry: Entry, seed: int, out: Path) -> dict[str, Any]:
    """The recipe of a cell; all see the same number of pairs, kto as two answers each."""
    file = f"{data}-flipped.jsonl" if entry.flipped else f"{data}.jsonl"
    rule = str(DESK / "rules.py") + ":house_rules" if data == "desk" else None
    single = entry.method["name"] == "kto"
    return {
        "name": f"{data}-{entry.label.replace(', 20 % flipped', '-flipped')}-{seed}",
        "out": str(out),
        "seed": seed,
        "model": "smollm2-135m-instruct",
        "data": {
            "path": str(out / file),
            "split_by": "tag:side",
            "heldout_values": ["heldout"],
            "max_length": 1024,
        },
        "method": entry.method,
        "train": {
            "batch_size": 2 * PAIRS if single else PAIRS,
            "epochs": 100,
            "max_steps": STEPS,
            "eval_every": 0,
            "save_every": 0,
        },
        "evaluate": {"samples": 48, "rule": rule, "max_new_tokens": 64},
        "resume": "auto",
    }


def run(recipe: dict[str, Any]) -> None:
    """One cell in a process of its own; its peak memory goes beside its results."""
    folder = Path(recipe["out"]) / recipe["name"]
    if (folder / "results.json").is_file():
        return
    path = folder.with_suffix(".yaml")
    path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    done = train(str(path))
    if done.code:
        sys.exit(f"{recipe['name']}: {done.said}")
    (folder / "peak.json").write_text(json.dumps({"bytes": done.peak}))
    sys.stderr.write(f"{recipe['name']} is done\n")


def read(data: str, entry: Entry, seed: int, out: Path) -> dict[str, float | None] | None:
    """The numbers of a cell; None where it has not been run."""
    folder = out / cell(data, entry, seed, out)["name"]
    if not (folder / "results.json").is_file():
        return None
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    peak = json.loads((folder / "peak.json").read_text(encoding="utf-8"))
    comparison, heldout = found["comparison"], found["heldout"]
    return {
        "accuracy": heldout.get("accuracy"),
        "rule": comparison["after"].get("share"),
        "kl": comparison["kl"],
        "words": comparison["after"]["words"],
        "seconds": found["training"]["seconds"],
        "peak": peak["bytes"] / GIB,
    }


COLUMNS = (
    ("held-out accuracy", "accuracy", "{:.1%}"),
    ("rule kept", "rule", "{:.1%}"),
    ("KL, nats", "kl", "{:.1f}"),
    ("words", "words", "{:.0f}"),
    ("training, s", "seconds", "{:.0f}"),
    ("peak, GiB", "peak", "{:.1f}"),
)


def table(data: str, entries: list[Entry], seeds: list[int], out: Path) -> str:
    """Means over the seeds that were run, with the smallest and the largest."""
    lines = [
        f"{data}\n",
        "| method | seeds | " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for entry in entries:
        found = [one for seed in seeds if (one := read(data, entry, seed, out)) is not None]
        if not found:
            lines.append(f"| {entry.label} | not run |" + " |" * len(COLUMNS))
            continue
        cells = [spread([one[key] for one in found], form) for _, key, form in COLUMNS]
        lines.append(
            f"| {entry.label} | {len(found)} of {len(seeds)} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def spread(values: list[float | None], form: str) -> str:
    """The mean, and the range where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    mean = form.format(statistics.mean(known))
    if len(known) == 1:
        return mean
    return f"{mean} ({form.format(min(known))} to {form.format(max(known))})"


if __name__ == "__main__":
    main()
