"""A task that a tiny model learns in seconds: what shouts is unsafe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOPICS = ("tea", "rain", "maps", "keys", "moss", "wool")
ROWS = 96


def prompts(count: int = ROWS, first: int = 0) -> list[dict[str, Any]]:
    """Prompts judged by themselves; each eighth label is wrong, so that scores overlap."""
    rows = []
    for number in range(first, first + count):
        shouts = number % 2 == 1
        word = f"{TOPICS[number % len(TOPICS)]} {number}"
        unsafe = shouts != (number % 8 == 3)
        rows.append(
            {
                "prompt": f"{word} {'!!!!' if shouts else '....'}",
                "label": "unsafe" if unsafe else "safe",
                "topic": TOPICS[number % len(TOPICS)],
            }
        )
    return rows


def answers(count: int = ROWS) -> list[dict[str, Any]]:
    """Answers with a thumb, good ones the quiet."""
    return [
        {
            "prompt": f"say {number}",
            "completion": f"well {number} {'!!!!' if number % 2 else '....'}",
            "label": number % 2 == 0,
        }
        for number in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(model: Path, out: Path) -> list[str]:
    """Overrides that make it a matter of seconds."""
    return [
        f"out={out}",
        f"model={model}",
        "adapter=full",
        "optim.lr=3e-3",
        "data.split_by=prompt",
        "train.epochs=6",
        "train.eval_every=0",
        "train.save_every=0",
        "train.precision=fp32",
        "train.tokens_per_microbatch=2000",
    ]
