"""Each method makes a tiny model earn more of a reward that a program can check, in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.rollout.tasks import make_task, share
from tests.train.tasks import train

from palate.train.metrics import read_metrics

STEPS = 24
GROUPS = {"rollout": {"prompts": 8, "answers": 4, "max_new_tokens": 4}, "train": {"batch_size": 32}}
PAIRS = {"rollout": {"prompts": 16, "answers": 4, "max_new_tokens": 4}, "train": {"batch_size": 16}}
BEST = {"rollout": {"prompts": 16, "answers": 8, "max_new_tokens": 4}, "train": {"batch_size": 16}}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "grpo": ("grpo", GROUPS),
    "dapo": ("dapo", GROUPS),
    "dr-grpo": ("dr-grpo", GROUPS),
    # the ratios of whole answers that it clips are for long answers and several updates
    "gspo": ({"name": "gspo", "clip_low": 0.2, "clip_high": 0.2}, GROUPS),
    "rloo": ("rloo", GROUPS),
    "reinforce++": ("reinforce++", GROUPS),
    "ppo": ("ppo", {**GROUPS, "train": {"batch_size": 32, "max_steps": 48}}),
    "spo": ("spo", GROUPS),
    "nash-md": ("nash-md", GROUPS),
    "online-dpo": ("online-dpo", PAIRS),
    "ipo": ("ipo", PAIRS),
    "xpo": ("xpo", PAIRS),
    "sppo": ("sppo", PAIRS),
    "iterative": ("dpo", {**PAIRS, "rollout": {**PAIRS["rollout"], "fresh_reference": 4}}),
    "rejection-sampling": ("rejection-sampling", BEST),
}


def letters_of(folder: Path) -> list[float]:
    """The mean share of letters in each rollout's answers, whatever the judge's scale."""
    found = []
    files = sorted((folder / "rollouts").iterdir(), key=lambda f: int(f.stem.split("-")[1]))
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        own = [a["text"] for row in rows for a in row["answers"] if a["origin"] == "own"]
        found.append(fmean(share(text) for text in own))
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_earns_more(tmp_path: Path, case: str) -> None:
    method, settings = CASES[case]
    steps = {"max_steps": STEPS, "eval_every": 0, **settings["train"]}
    task = make_task(tmp_path / "run", method, rollout=settings["rollout"], train=steps, prompts=16)
    train(task)
    found = letters_of(tmp_path / "run")
    assert fmean(found[-3:]) > fmean(found[:2]) + 0.1, found


def test_spin_draws_the_model_to_the_demonstrations(tmp_path: Path) -> None:
    """No judge: the demonstrations become likelier, from a fresh reference at every rollout."""
    settings = {"answers": 2, "prompts": 8, "max_new_tokens": 6}
    steps = {"max_steps": 16, "eval_every": 0, "batch_size": 16}
    task = make_task(tmp_path / "run", "spin", rollout=settings, train=steps)
    train(task)
    lines = [x for x in read_metrics(tmp_path / "run" / "metrics.jsonl") if x["kind"] == "train"]
    first, last = lines[0]["chosen_logp"], lines[-1]["chosen_logp"]
    assert last > first + 2
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert lines[1]["loss"] == pytest.approx(0.693147, abs=1e-5), "the reference is fresh"
