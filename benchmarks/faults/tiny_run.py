"""Whole runs of a tiny model, with settings, and what two of them must have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.config import RunConfig, build_config

PAIRS = 14
RULE = "def letters(prompt, text):\n    return sum(c.isalpha() for c in text) / max(1, len(text))\n"
BASE: dict[str, Any] = {
    "data": {"heldout": 0.2, "max_length": 128},
    "adapter": {"rank": 4},
    "optim": {"lr": 5e-3},
    "train": {
        "batch_size": 4,
        "epochs": 50,
        "max_steps": 6,
        "eval_every": 3,
        "save_every": 2,
        "precision": "fp32",
        "device": "cpu",
        "tokens_per_microbatch": 400,
    },
    "evaluate": {"samples": 2, "max_new_tokens": 4},
}
GRPO: dict[str, Any] = {
    "method": "grpo",
    "train": {"batch_size": 6},
    "rollout": {"prompts": 3, "answers": 2, "max_new_tokens": 4},
}
"""Settings of an online run; the judge is a rule of `prepare`'s."""


def prepare(folder: Path) -> Path:
    """The model, the pairs, the prompts and a rule that runs need; the folder."""
    from tests.tiny import save_tiny

    folder.mkdir(parents=True, exist_ok=True)
    save_tiny(folder / "tiny")
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Yes {i}. And you?", "rejected": f"No, {i}."}
        for i in range(PAIRS)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    (folder / "prompts.txt").write_text("".join(f"Say {i}\n" for i in range(12)), encoding="utf-8")
    (folder / "rules.py").write_text(RULE, encoding="utf-8")
    return folder


def recipe(desk: Path, out: Path, **settings: Any) -> RunConfig:
    """A recipe over what `prepare` made; sections are added to `BASE`, not replaced."""
    body: dict[str, Any] = {
        **BASE,
        "name": "run",
        "out": str(out),
        "seed": 5,
        "model": str(desk / "tiny"),
        "resume": "auto",
    }
    for key, value in settings.items():
        merge = isinstance(value, dict) and isinstance(body.get(key), dict)
        body[key] = {**body[key], **value} if merge else value
    online = "rollout" in body
    body["data"] = {
        **body["data"],
        "path": str(desk / ("prompts.txt" if online else "pairs.jsonl")),
    }
    if online:
        body["rollout"] = {"judge": f"{desk / 'rules.py'}:letters", **body["rollout"]}
    return build_config(body)


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Reference caches of runs inside lie in `folder`."""
    before = os.environ.get("PALATE_CACHE")
    os.environ["PALATE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PALATE_CACHE"]
        else:
            os.environ["PALATE_CACHE"] = before


@contextmanager
def no_page() -> Iterator[None]:
    """Runs inside write no report.html, whose charts take longer than a tiny run's training."""
    import palate.run

    before = palate.run.write_report
    palate.run.write_report = lambda folder: folder / "report.html"
    try:
        yield
    finally:
        palate.run.write_report = before


def after(folder: Path, step: int) -> Callable[[], bool]:
    """Asks for a stop once metrics.jsonl tells of the step."""
    file = folder / "metrics.jsonl"
    return lambda: any(line["kind"] == "train" and line["step"] >= step for line in lines_of(file))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file without their times; empty where there is none."""
    if not path.is_file():
        return []
    texts = path.read_text(encoding="utf-8").split("\n")
    assert texts[-1] == "", f"{path.name} ends within a line"
    rows = [json.loads(text) for text in texts[:-1]]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def newest(folder: Path) -> Path:
    """The newest checkpoint of a run."""
    from palate.train.checkpoint import list_checkpoints

    return list_checkpoints(folder / "checkpoints")[-1]


def tensors(folder: Path) -> dict[str, Any]:
    """Every tensor of a finished run: the newest checkpoint's, the adapter's, the model's."""
    from safetensors.torch import load_file

    places = [newest(folder), folder / "adapter", folder / "model"]
    return {
        f"{place.name}/{file.name}/{name}": value
        for place in places
        for file in sorted(place.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def assert_same_run(found: Path, expected: Path) -> None:
    """Two finished runs are one: tensors bit for bit, and every line that does not tell a time."""
    import torch

    mine, whole = tensors(found), tensors(expected)
    assert mine.keys() == whole.keys(), f"{found} holds other tensors than {expected}"
    other = [name for name, value in whole.items() if not torch.equal(mine[name], value)]
    assert not other, f"{len(other)} of {len(whole)} tensors differ, the first is {other[0]}"
    for name in ("metrics.jsonl", "heldout.jsonl", "samples.jsonl"):
        one, two = lines_of(found / name), lines_of(expected / name)
        assert one == two, f"{name} differs: {_first_difference(one, two)}"
    rollouts = [_texts(folder / "rollouts") for folder in (found, expected)]
    assert rollouts[0] == rollouts[1], "the rollouts differ"
    state = [
        json.loads((newest(one) / "state.json").read_text("utf-8")) for one in (found, expected)
    ]
    assert state[0] == state[1], "state.json differs"


def _state(folder: Path) -> Any:
    return json.loads((newest(folder) / "state.json").read_text(encoding="utf-8"))


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*"))}


def _first_difference(one: list[Any], two: list[Any]) -> str:
    if len(one) != len(two):
        return f"{len(one)} lines instead of {len(two)}"
    return next(f"{a} instead of {b}" for a, b in zip(one, two, strict=True) if a != b)
