"""RLHF's pipelines against DPO on a language model: the support desk, its house rules as the truth.

    python benchmarks/desk_rlhf.py --out runs/desk-rlhf                     # hours on 2 cores
    python benchmarks/desk_rlhf.py --out runs/desk-rlhf --seeds 0 --only dpo
    python benchmarks/desk_rlhf.py --out runs/desk-rlhf --rates 1e-3 5e-3 --seeds 0
    python benchmarks/desk_rlhf.py --out runs/desk-rlhf --memory            # minutes
    python benchmarks/desk_rlhf.py --out runs/desk-rlhf --table             # what there is so far
    python benchmarks/desk_rlhf.py --out docs/desk --table                  # what the docs show

All learn from the same log's pairs, by the recipes of examples/support_desk, and see as many
answers while they train, to one in eighty: DPO the two of some 1,075 pairs (136 steps of eight,
the last of each epoch of fewer), RLHF those of 317 pairs for its reward model, and twice 768
samples of its own. Policies have a constant rate after warming up. The house rules only measure.
Prompts of some templates are held out of all runs of a seed; checkpoints answer them as the model
would by itself (temperature 1, no top-k), so that the KL is the policies' own. Rules kept at a KL
are read where a path first comes so far, between two checkpoints that are not far apart.
Times are whole commands, with loading and the reference's pass, and without held-out passes. The
reward model is one for a seed, at the recipe's own rate. A run has gone wrong that stops at a
number that is not finite, or whose answers keep the rules less often at its end than the untrained
model's. Memory is that of a few steps with an allocator that gives back what is freed.

A stage that is there is not trained again, and one that was interrupted goes on; several of these
programs may work on one folder if their seeds differ.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.trained import train as palate_train

from palate.experiments.rlhf import at_equal_kl

ROOT = Path(__file__).resolve().parents[1]
DESK = Path("examples/support_desk")
RATE = 2e-4
ANSWERS = 96  # to the prompts that are held out, at most
FAR = 4.0  # times the KL of the checkpoint before
GIB = 2**30
DIVERGED = ("the loss is", "gradient norm is")  # in what a run says that stops at such a number


@dataclass(frozen=True)
class Stage:
    """A training: its recipe, what is set beside it, and the steps whose checkpoints answer.

    They are multiples of the first.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """What leads from the pairs to a policy; `models` stand in memory while it trains."""

    label: str
    stages: tuple[Stage, ...]
    models: str


REWARD = Stage("reward.yaml")
DIRECT = (4, 8, 12, 16, 20, 36, 68, 136)
ONLINE = (8, 16, 24, 32)
PIPELINES = (
    Pipeline(
        "dpo",
        (
            Stage(
                "recipe.yaml",
                ("train.epochs=5", "train.max_steps=136"),
                (4, 8, 12, 16, 20, 36, 68, 136),
            ),
        ),
        "policy",
    ),
    Pipeline("ppo", (REWARD, Stage("ppo.yaml", (), ONLINE)), "policy, reward, value head"),
    Pipeline(
        "grpo",
        (REWARD, Stage("ppo.yaml", ("method={name: grpo, beta: 0.02}",), ONLINE)),
        "policy, reward",
    ),
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="RLHF's pipelines against DPO on the desk.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[RATE])
    parser.add_argument("--only", nargs="+", choices=[one.label for one in PIPELINES])
    parser.add_argument("--kl", type=float, default=2.0, help="nats at which rules are compared")
    parser.add_argument("--memory", action="store_true", help="a few steps of each, for its peak")
    parser.add_argument("--keep", type=Path, help="copy the figures there; --table reads them")
    parser.add_argument("--table", action="store_true", help="run nothing, print what there is")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, then print the table."""
    args = arguments()
    out = args.out.resolve()
    args.keep = args.keep and args.keep.resolve()
    os.chdir(ROOT)  # where the recipes find their data
    wanted = [one for one in PIPELINES if not args.only or one.label in args.only]
    if args.memory:
        for one in wanted:
            remembered(one, out)
    elif not args.table:
        for seed in args.seeds:
            for rate in args.rates:
                for one in wanted:
                    run(one, rate, seed, out)
    if args.keep:
        kept(out, args.keep)
    for line in [*table(wanted, out, args.kl), "", *paths(wanted, out)]:
        sys.stdout.write(line + "\n")


def names(one: Pipeline, rate: float, seed: int) -> list[str]:
    """The folders of the stages: a seed's reward model serves all, at the recipe's own rate."""
    return [*(["reward-" + str(seed)] * (len(one.stages) - 1)), f"{one.label}-{rate:g}-{seed}"]


def run(one: Pipeline, rate: float, seed: int, out: Path) -> None:
    """Train the stages, then measure the last one's checkpoints."""
    folders = [out / name for name in names(one, rate, seed)]
    for stage, folder in zip(one.stages, folders, strict=True):
        words = settings(one, stage, folders, rate, seed)
        if not train(DESK / stage.recipe, words, folder):
            note_of(folders[-1]).write_text(note_of(folder).read_text())  # nothing to go on from
            return
    # In a process of its own: what it takes would be counted as that of the next stage.
    process = multiprocessing.get_context("spawn").Process(
        target=measured, args=(folders[-1], one.stages[-1].steps, seed)
    )
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{folders[-1].name} could not be measured")


def settings(
    one: Pipeline, stage: Stage, folders: Sequence[Path], rate: float, seed: int
) -> list[str]:
    """What a stage's recipe is given: the same split for all, and no pass but training's."""
    folder = folders[one.stages.index(stage)]
    apart = json.dumps(sorted({str(one.tags["template"]) for one in pairs_apart(seed)}))
    words = [f"seed={seed}", f"out={folder.parent}", f"name={folder.name}", "resume=auto"]
    words += [*stage.settings, "data.max_length=512", f"data.heldout_values={apart}"]
    words += ["evaluate.samples=0", "train.eval_every=0"]
    if stage.steps:
        words += [f"optim.lr={rate}", "optim.schedule=constant", "train.keep=99"]
        words += [f"train.save_every={stage.steps[0]}"]
    if stage is not one.stages[0]:
        words.append(f"rollout.judge.model={folders[0]}")
    return words


def remembered(one: Pipeline, out: Path) -> None:
    """The largest memory of a few steps of each stage, freed memory given back."""
    folders = [out / "memory" / name for name in names(one, RATE, 0)]
    for stage, folder in zip(one.stages, folders, strict=True):
        words = settings(one, stage, folders, RATE, 0)
        train(
            DESK / stage.recipe, [*words, "train.max_steps=4"], folder, PALATE_ALLOCATOR="default"
        )


@functools.cache
def pairs_apart(seed: int) -> list[Any]:
    """The pairs that are held out of a seed's runs, as the recipe of the pairs draws them.

    Rows without a pair are prompts to RLHF and nothing to DPO, so that each recipe by itself would
    draw other templates, and have other prompts of the same ones.
    """
    from palate.config import load_config
    from palate.curate.prepare import prepare

    return list(prepare(load_config(DESK / "recipe.yaml").data, seed).heldout)


def train(recipe: Path, words: Sequence[str], folder: Path, **environment: str) -> bool:
    """One stage in a process of its own: whether it came to its end.

    Its time and its largest memory are written beside it, those of interrupted attempts with them.
    It has a cache of its own, so that nothing is there that another run has computed.
    """
    note = note_of(folder)
    found: dict[str, Any] = {"ended": None, "peak": 0, "seconds": 0.0, "said": ""}
    if note.is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
    if found["ended"] is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        cache = str(folder.parent / f"{folder.name}-cache")
        done = palate_train(str(recipe), *words, PALATE_CACHE=cache, **environment)
        found["peak"] = max(found["peak"], done.peak)
        found["seconds"] += done.seconds
        note.write_text(json.dumps(found), encoding="utf-8")
        if done.interrupted:
            sys.exit(f"{folder.name} is stopped, and can go on")
        if done.code and not any(word in done.said for word in DIVERGED):
            sys.exit(f"{folder.name}: {done.said}")
        found |= {"ended": done.code == 0, "said": done.said if done.code else ""}
        note.write_text(json.dumps(found), encoding="utf-8")
        how = f"stopped: {done.said}" if done.code else "is done"
        sys.stderr.write(f"{folder.name} {how}\n")
    return bool(found["ended"])


def note_of(folder: Path) -> Path:
    """What is written about a stage when it has ended."""
    return folder.parent / f"{folder.name}.json"


def measured(folder: Path, steps: Sequence[int], seed: int) -> None:
    """Let the checkpoints answer, and before them the untrained model; written as they come."""
    path = folder / "path.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if set(found) == {"0", *map(str, steps)}:
        return
    from palate.config import load_config
    from palate.durable import write_json
    from palate.evaluate.sampled import choose_prompts, sample_answers, with_kl
    from palate.generate.draw import Sampling
    from palate.judge.rules import load_rule
    from palate.losses.registry import method_of
    from palate.model.adapters import trainable
    from palate.model.value import add_value_head
    from palate.progress import Quiet
    from palate.store.snapshot import read_snapshot
    from palate.train.checkpoint import load_weights
    from palate.train.setup import set_up

    config = load_config(folder / "config.yaml")
    learner = set_up(config, folder, True, Quiet())
    if method_of(config)[0].head == "value":
        add_value_head(learner.policy)
    keys = {one.prompt_key for one in pairs_apart(seed)}
    apart = [one for one in read_snapshot(folder / "snapshot").heldout if one.prompt_key in keys]
    prompts, n = choose_prompts(apart, ANSWERS)
    sampling = Sampling(64, 1.0, 0, seed)
    rule = load_rule(f"{DESK / 'rules.py'}:house_rules")
    for step in (0, *steps):
        if str(step) in found:
            continue
        if step:
            load_weights(folder / "checkpoints", trainable(learner.policy), step)
        answers, rendered = sample_answers(
            learner.policy,
            learner.renderer,
            prompts,
            sampling,
            n=n,
            stage="after" if step else "before",
            rule=rule,
        )
        answers = with_kl(
            answers, rendered, learner.policy, learner.reference(), learner.switch, 4096
        )
        judged = [answer.result for answer in answers if answer.result is not None]
        found[str(step)] = {
            "prompts": len(prompts),
            "answers": len(answers),
            "kept": statistics.fmean(one.passed for one in judged),
            "score": statistics.fmean(one.score for one in judged),
            "kl": statistics.fmean(one.kl for one in answers if one.kl is not None),
            "words": statistics.fmean(len(one.text.split()) for one in answers),
            "finished": statistics.fmean(one.finished for one in answers),
        }
        write_json(path, found)
    sys.stderr.write(f"{folder.name} is measured\n")


@dataclass(frozen=True)
class Cell:
    """A run: where its path went by step, what it took, and whether it went wrong."""

    path: dict[int, dict[str, float]]
    minutes: float
    samples: int
    wrong: bool

    @property
    def last(self) -> dict[str, float]:
        """The end of its path."""
        return self.path[max(self.path)]

    def at(self, kl: float, what: str) -> float:
        """Where the path first passes a KL; NaN if it never does, or leaps over it."""
        for before, after in pairwise(sorted(self.path)):
            low, high = self.path[before], self.path[after]
            if low["kl"] <= kl <= high["kl"]:
                if low["kl"] * FAR < high["kl"]:
                    return math.nan
                return at_equal_kl([(one["kl"], one[what]) for one in (low, high)], kl)
        return math.nan


def read(one: Pipeline, rate: float, seed: int, out: Path) -> Cell | None:
    """A run's figures; None where it has not been made."""
    folders = [out / name for name in names(one, rate, seed)]
    if not all(note_of(folder).is_file() for folder in folders):
        return None
    ends = [json.loads(note_of(folder).read_text(encoding="utf-8")) for folder in folders]
    if any(end["ended"] is None for end in ends):
        return None
    if not ends[-1]["ended"]:
        return Cell({}, 0.0, 0, True)
    if not (folders[-1] / "path.json").is_file():
        return None
    raw = json.loads((folders[-1] / "path.json").read_text(encoding="utf-8"))
    path = {int(step): found for step, found in raw.items()}
    if set(path) != {0, *one.stages[-1].steps}:
        return None
    results = json.loads((folders[-1] / "results.json").read_text(encoding="utf-8"))
    return Cell(
        path,
        sum(end["seconds"] for end in ends) / 60,
        (results["rollouts"] or {"answers": 0})["answers"],
        path[max(path)]["kept"] < path[0]["kept"],
    )


def memory(one: Pipeline, out: Path) -> float:
    """The largest of its stages, in GiB; NaN where `--memory` has not been run."""
    found = [note_of(out / "memory" / name) for name in names(one, RATE, 0)]
    if not all(note.is_file() for note in found):
        return math.nan
    return max(json.loads(note.read_text(encoding="utf-8"))["peak"] for note in found) / GIB


def kept(out: Path, folder: Path) -> None:
    """Copy what the table is made of: the stages' ends, the paths and the counts of samples."""
    for note in [*out.glob("*.json"), *out.glob("memory/*.json")]:
        place = folder / note.relative_to(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(note.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        run = note.with_suffix("")
        if (run / "path.json").is_file():
            rollouts = json.loads((run / "results.json").read_text(encoding="utf-8"))["rollouts"]
            answers = None if rollouts is None else {"answers": rollouts["answers"]}
            place.with_suffix("").mkdir(exist_ok=True)
            results = json.dumps({"rollouts": answers}) + "\n"
            (place.with_suffix("") / "results.json").write_text(results, encoding="utf-8")
            (place.with_suffix("") / "path.json").write_bytes((run / "path.json").read_bytes())


def table(wanted: Sequence[Pipeline], out: Path, kl: float) -> list[str]:
    """A line for each pipeline and rate that was run: means over seeds, and the seeds."""
    lines = [
        (
            "| | rate | stages | models | lines of recipe | samples | minutes | memory, GiB "
            f"| rules kept at {kl:g} nats | score there | rules kept at the end | KL there "
            "| words | gone wrong |"
        ),
        "|---" * 14 + "|",
    ]
    for one in wanted:
        rates = {float(path.stem.rsplit("-", 2)[1]) for path in notes(one, out)}
        for rate in sorted(rates):
            seeds = sorted(
                int(path.stem.rsplit("-", 1)[1])
                for path in notes(one, out)
                if path.stem.startswith(f"{one.label}-{rate:g}-")
            )
            cells = [cell for seed in seeds if (cell := read(one, rate, seed, out)) is not None]
            if not cells:
                continue
            ended = [cell for cell in cells if cell.path]
            fields = [
                one.label,
                f"{rate:g}",
                str(len(one.stages)),
                one.models,
                str(sum(length(DESK / stage.recipe) for stage in one.stages)),
                f"{max(cell.samples for cell in cells)}",
                told([cell.minutes for cell in ended], "{:.0f}"),
                told([memory(one, out)], "{:.1f}"),
                told([100 * cell.at(kl, "kept") for cell in ended], "{:.0f}"),
                told([cell.at(kl, "score") for cell in ended], "{:.2f}"),
                told([100 * cell.last["kept"] for cell in ended], "{:.0f}"),
                told([cell.last["kl"] for cell in ended], "{:.1f}"),
                told([cell.last["words"] for cell in ended], "{:.0f}"),
                f"{sum(cell.wrong for cell in cells)} of {len(cells)}",
            ]
            lines.append("| " + " | ".join(fields) + " |")
    return lines


def paths(wanted: Sequence[Pipeline], out: Path) -> list[str]:
    """Where each run's checkpoints stood: between which of them the rules at a KL were read."""
    lines = ["| run | checkpoints: KL in nats, answers that keep the rules |", "|---|---|"]
    for one in wanted:
        for note in notes(one, out):
            _, rate, seed = note.stem.rsplit("-", 2)
            cell = read(one, float(rate), int(seed), out)
            if cell is None or not cell.path:
                continue
            went = [f"{at['kl']:.1f}: {at['kept']:.0%}" for _, at in sorted(cell.path.items())]
            lines.append(f"| {note.stem} | {', '.join(went)} |")
    return lines


def notes(one: Pipeline, out: Path) -> list[Path]:
    """What was written when a pipeline's last stages ended."""
    return sorted(out.glob(f"{one.label}-*.json"))


def length(recipe: Path) -> int:
    """Lines of a recipe that say something."""
    lines = (ROOT / recipe).read_text(encoding="utf-8").splitlines()
    return sum(bool(line.split("#")[0].strip()) for line in lines)


def told(values: Sequence[float], form: str) -> str:
    """The mean of those there are, with the values of the seeds where there are several."""
    each = [form.format(value) if math.isfinite(value) else "–" for value in values]
    there = [value for value in values if math.isfinite(value)]
    if not there or len(values) == 1:
        return each[0] if len(each) == 1 else "–"
    return f"{form.format(statistics.fmean(there))} ({', '.join(each)})"


if __name__ == "__main__":
    main()
