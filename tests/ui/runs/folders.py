"""Run folders as a trainer writes them, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


def begin(runs: Path, name: str = "desk", *, steps: int = 20, method: str = "dpo") -> Path:
    """A folder in which a run has begun; its recipe asks for `steps` steps."""
    folder = runs / name
    folder.mkdir(parents=True)
    recipe = {
        "name": name,
        "method": {"name": method},
        "model": {"path": "tiny"},
        "train": {"max_steps": steps, "epochs": 100.0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def train_line(step: int, **values: float) -> dict[str, Any]:
    """A training step of two seconds; ten steps are an epoch."""
    sizes = {"examples": 8, "unique_tokens": 100, "path_tokens": 400, "seconds": 2.0}
    return {"kind": "train", "step": step, "epoch": step / 10, **values, **sizes}


def write(folder: Path, *lines: dict[str, Any], file: str = "metrics.jsonl") -> None:
    """Append lines, each whole."""
    with (folder / file).open("a", encoding="utf-8") as out:
        out.write("".join(json.dumps(line) + "\n" for line in lines))


def dpo_lines(first: int, last: int) -> Iterable[dict[str, Any]]:
    """Steps first … last whose loss falls by 0.01 each and whose margin rises by 0.1."""
    for step in range(first, last + 1):
        yield train_line(
            step,
            loss=0.7 - 0.01 * step,
            margin=0.1 * step,
            accuracy=0.75,
            chosen_reward=-0.1 * step,
            rejected_reward=-0.2 * step,
        )


def heldout_line(step: int, **values: float) -> dict[str, Any]:
    """A measurement on 43 held-out pairs."""
    return {"kind": "heldout", "step": step, "n": 43, **values}


def finish(folder: Path, **results: Any) -> None:
    """Say that the run is complete."""
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def answer(stage: str, text: str, group: str = "a") -> dict[str, Any]:
    """A line of samples.jsonl."""
    prompt = [{"role": "user", "content": "Where is my parcel?"}]
    return {
        "stage": stage,
        "group": group,
        "prompt": prompt,
        "text": text,
        "tokens": 5,
        "finished": True,
        "result": None,
        "kl": None,
    }
