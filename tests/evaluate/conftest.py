"""A run's folder as a run would write it, made of numbers that need no model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from palate.curate.funnel import Funnel
from palate.evaluate.answers import Answer, Stage, summarise
from palate.judge.rules import RuleResult
from palate.records import Message

STEPS = 40
HOSTILE = '</p><script>alert(1)</script><img src="http://evil.example/x.png" onerror="a()">'
SYSTEM = "You answer for a support desk.\nAt most 30 words, and always end with a question."
QUESTIONS = (
    "My parcel has not come, and the tracking page has said 'on its way' for nine days.",
    "Can you change the address of my order before it ships?",
    "The blue kettle I bought switches itself off. What are my options?",
    HOSTILE,
)
LONG = (
    "I am sorry to hear that. There are many reasons why this can happen, and I will go through "
    "all of them, starting with the courier, who may have been held up by the weather."
)
SHORT = "I am sorry about that. Shall I look up your order number?"


def sampled(prompts: int = 32, answers: int = 1, scored: bool = True) -> list[Answer]:
    """Answers before (one in four prompts follows the rule) and after (all but one in sixteen)."""
    draw = np.random.default_rng(0)
    out: list[Answer] = []
    for stage in ("before", "after"):
        for number in range(prompts * answers):
            prompt = number // answers
            passed = number % 4 == 0 if stage == "before" else number % 16 != 5
            text = f"{SHORT if passed else LONG} {' '.join(draw.choice(LONG.split(), 4))}"
            asked = QUESTIONS[prompt % len(QUESTIONS)]
            failed = () if passed else ("length", "question")
            kind: Stage = "before" if stage == "before" else "after"
            out.append(
                Answer(
                    prompt=(Message("system", SYSTEM), Message("user", f"{asked} ({prompt})")),
                    group=str(prompt),
                    text=HOSTILE if prompt == 3 else text,
                    tokens=26 + int(draw.integers(4)),
                    finished=True,
                    stage=kind,
                    result=RuleResult(passed, float(passed), failed) if scored else None,
                    kl=draw.normal(4.1, 1.0) if stage == "after" else None,
                )
            )
    return out


def metrics(method: str) -> list[dict[str, Any]]:
    """Forty steps of falling loss and growing margin, held out measured every tenth."""
    draw = np.random.default_rng(1)
    lines: list[dict[str, Any]] = []
    for step in range(STEPS + 1):
        margin = 3.2 * step / STEPS
        loss = math.log1p(math.exp(-margin)) if method == "dpo" else 2.6 - 0.02 * step
        pair = {
            "margin": margin + draw.normal(0, 0.3),
            "accuracy": min(1.0, round(8 * (0.5 + 0.012 * step + draw.normal(0, 0.08))) / 8),
            "chosen_reward": -0.4 * margin + draw.normal(0, 0.15),
            "rejected_reward": -1.4 * margin + draw.normal(0, 0.2),
        }
        if method == "sft":
            pair = {}
        if step:
            lines.append(
                {"kind": "train", "step": step, "epoch": step / STEPS, "seconds": 2.7 * step}
                | {"loss": loss + draw.normal(0, 0.03), "grad_norm": 1 + draw.random()}
                | {"lr": 2e-4 * math.cos(math.pi * step / 2 / STEPS)}
                | pair
            )
        if step % 10 == 0:
            lines.append({"kind": "heldout", "step": step, "loss": loss + 0.03, "n": 29} | pair)
    return lines


def write_run(folder: Path, method: str = "dpo", answers: list[Answer] | None = None) -> Path:
    """Write the files of a finished run into `folder`."""
    (folder / "snapshot").mkdir(parents=True)
    answers = sampled(scored=method == "dpo") if answers is None else answers
    config: dict[str, Any] = {
        "name": folder.name,
        "out": "runs",
        "seed": 0,
        "model": {"path": "smollm2-135m-instruct"},
        "data": {"path": "examples/support_desk/traffic.jsonl"},
        "method": {"name": "dpo", "beta": 0.1} if method == "dpo" else {"name": "sft"},
        "adapter": {"kind": "lora", "rank": 16, "alpha": 32.0, "targets": "all-linear"},
        "optim": {"lr": 2e-4, "schedule": "cosine", "warmup": 0.1},
        "train": {"batch_size": 8, "precision": "auto", "layout": "auto", "device": "cpu"},
        "evaluate": {"rule": "examples/support_desk/rules.py:house"} if method == "dpo" else {},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    environment = {
        "python": "3.11.9",
        "versions": {"palate": "0.1.0", "torch": "2.13.0", "transformers": "5.17.1"},
        "commit": "cb7a1bf",
        "machine": {"processor": "x86-64", "cores": 2, "memory": 16 * 2**30}
        | {"features": ["avx2", "avx512_bf16"]},
        "plan": {"layout": "tree", "layout_reason": "exact", "precision": "bf16", "device": "cpu"},
        "parameters": 134_515_008,
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    with (folder / "metrics.jsonl").open("w") as out:
        out.writelines(json.dumps(line) + "\n" for line in metrics(method))
    with (folder / "samples.jsonl").open("w") as out:
        out.writelines(json.dumps(answer.to_dict()) + "\n" for answer in answers)
    before = [a for a in answers if a.stage == "before"]
    after = [a for a in answers if a.stage == "after"]
    results: dict[str, Any] = {
        "comparison": summarise(before, after).to_dict() if answers else None,
        "training": {
            "seconds": 112.3,
            "steps": STEPS,
            "pairs_per_second": 2.85,
            "unique_tokens": 61_234,
            "path_tokens": 148_230,
            "sharing": 2.42,
        },
        "method": config["method"],
    }
    if method == "dpo":
        results["heldout"] = {
            "n": 29,
            "accuracy": 0.862,
            "accuracy_interval": [0.694, 0.945],
            "margin": 2.9,
            "loss": 0.31,
        }
        results["step0"] = {
            "loss": 0.6931471,
            "expected": 0.693147,
            "mean_abs_h": 0.0,
            "max_abs_h": 0.0,
        }
    (folder / "results.json").write_text(json.dumps(results))
    funnel = Funnel()
    funnel.add("read", 640, "rows read")
    funnel.add("parse", 632, "usable", {"broken-json": 5, "missing-field": 3})
    funnel.add("pair", 231, "pairs", {"no-contrast": 84, "<b>odd</b>": 1})
    funnel.add("train", 202, "train")
    funnel.add("held-out", 29, "held-out")
    manifest = {"rows": {"train": 202}, "funnel": funnel.to_dict(), "content_hash": "ab12" * 16}
    (folder / "snapshot" / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run(method="sft", answers=[])` writes another run."""

    def make(method: str = "dpo", answers: list[Answer] | None = None) -> Path:
        return write_run(tmp_path / method, method, answers)

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished dpo run."""
    return write_run(tmp_path / "quickstart")
