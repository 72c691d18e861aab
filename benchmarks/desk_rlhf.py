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
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.desk.pipelines import DESK, PIPELINES, RATE, ROOT, Pipeline, Stage, names, note_of
from benchmarks.desk.table import kept, paths, table
from benchmarks.trained import train as palate_train

ANSWERS = 96  # to the prompts that are held out, at most
DIVERGED = ("the loss is", "gradient norm is")  # in what a run says that stops at such a number


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
    apart = json.dumps(sorted({str(pair.tags["template"]) for pair in pairs_apart(seed)}))
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


if __name__ == "__main__":
    main()
