"""A tiny world in which a model can get better, and worse in three ways, within seconds.

Answers are a few words; words of letters are good, words of digits are bad. The base has learned to
say both, in answers of four words that end.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tiny import save_tiny

from palate.config import build_config
from palate.run import train

GOOD = ("ab", "cde", "fg", "hij", "kl")
BAD = ("12", "345", "67", "890", "55")
PROMPTS = 80
RULE = """
def letters(prompt, answer):
    words = answer.split()
    return sum(word.isalpha() for word in words) / len(words) if words else 0.0
"""
Answers = Callable[[random.Random], tuple[str, str]]


def said(draw: random.Random, words: tuple[str, ...], count: int = 4) -> str:
    return " ".join(draw.choice(words) for _ in range(count))


def better(draw: random.Random) -> tuple[str, str]:
    """Letters over digits, equally long."""
    return said(draw, GOOD), said(draw, BAD)


def swapped(draw: random.Random) -> tuple[str, str]:
    """The same pairs the wrong way round."""
    return said(draw, BAD), said(draw, GOOD)


def longer(draw: random.Random) -> tuple[str, str]:
    """Long over short, whatever the words."""
    return said(draw, GOOD + BAD, 9), said(draw, GOOD + BAD, 3)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prompt(number: int) -> str:
    return f"Q{number % 10}{'.' * (number // 10)}"


def make_base(home: Path) -> Path:
    """A tiny model that has learned to speak: a run's folder."""
    draw = random.Random(0)
    rows = [
        {"prompt": prompt(n), "completion": said(draw, GOOD + BAD)}
        for n in range(PROMPTS)
        for _ in range(4)
    ]
    return _train(home, "base", str(save_tiny(home / "tiny")), rows, "sft", lr=1e-2, steps=110)


def make_run(
    home: Path, name: str, base: Path, answers: Answers, *, lr: float, steps: int, beta: float
) -> Path:
    """A run of DPO on pairs that `answers` draws, from the base's model."""
    method = {"name": "dpo", "beta": beta}
    return _train(home, name, str(base / "model"), pairs_of(answers), method, lr=lr, steps=steps)


def pairs_of(answers: Answers) -> list[dict[str, Any]]:
    """A pair to each prompt."""
    draw = random.Random(1)
    drawn = [answers(draw) for _ in range(PROMPTS)]
    return [
        {"prompt": prompt(number), "chosen": chosen, "rejected": rejected}
        for number, (chosen, rejected) in enumerate(drawn)
    ]


def write_pairs(path: Path, answers: Answers) -> str:
    """The same pairs as a file."""
    return write_rows(path, pairs_of(answers))


def _train(
    home: Path,
    name: str,
    model: str,
    rows: list[dict[str, Any]],
    method: Any,
    *,
    lr: float,
    steps: int,
) -> Path:
    rule = home / "letters.py"
    rule.write_text(RULE, encoding="utf-8")
    config = build_config(
        {
            "name": name,
            "out": str(home / "runs"),
            "model": model,
            "method": method,
            "data": {"path": write_rows(home / f"{name}.jsonl", rows), "heldout": 0.3},
            "adapter": {"kind": "full"},
            "optim": {"lr": lr},
            "train": {
                "batch_size": 8,
                "max_steps": steps,
                "epochs": 100,
                "eval_every": 0,
                "precision": "fp32",
            },
            "evaluate": {
                "samples": 0,
                "answers": 72,
                "max_new_tokens": 40,
                "temperature": 1.0,
                "rule": f"{rule}:letters",
                "demonstrations": "none",
                "instructions": "none",
                "safety": "none",
            },
            "gate": {
                "perplexity_rise": None,
                "instructions_drop": None,
                "overrefusal_rise": None,
            },
        }
    )
    return train(config).folder
