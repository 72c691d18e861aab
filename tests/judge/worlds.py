"""Answers and questions for tests of judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import save_tiny

from palate.config import build_config
from palate.judge.opinion import Answered, Question
from palate.records import Completion, Example, Message, Verdict
from palate.run import train


def example(prompt: str = "Where is my parcel?", *answers: str, **more: object) -> Example:
    """A prompt and the answers that the data hold."""
    completions = tuple(Completion((Message("assistant", text),)) for text in answers)
    return Example((Message("user", prompt),), completions, **more)  # type: ignore[arg-type]


def pair(chosen: str, rejected: str) -> Example:
    """Two answers of which the second stands first in the data."""
    return example("Which?", rejected, chosen, verdict=Verdict(1, 0))


def answered(text: str, *, about: Example | None = None, finished: bool = True) -> Answered:
    """An answer to judge."""
    return Answered(about or example(), text, finished)


def question(first: str, second: str, prompt: str = "Where is my parcel?") -> Question:
    """Two answers to compare."""
    return Question(example(prompt), first, second)


def trained_to_ask(folder: Path, kind: str, method: Any) -> Path:
    """A run over pairs whose chosen answers end in a question; the folder it is in."""
    rows = [
        {"prompt": f"Question {n}", "chosen": f"Yes {n}. And you?", "rejected": f"No {n}."}
        for n in range(12)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    train(
        build_config(
            {
                "name": kind,
                "out": str(folder),
                "model": str(save_tiny(folder / "tiny")),
                "data": {"path": str(folder / "pairs.jsonl"), "heldout": 0.2, "split_by": "prompt"},
                "method": method,
                "adapter": {"kind": kind},
                "optim": {"lr": 0.01},
                "train": {"max_steps": 12, "epochs": 99, "precision": "fp32"},
                "evaluate": {"samples": 0},
            }
        )
    )
    return folder / kind


def asked_again() -> list[Question]:
    """Some of those pairs."""
    return [Question(example(f"Question {n}"), f"Yes {n}. And you?", f"No {n}.") for n in range(4)]
