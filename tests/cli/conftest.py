"""A finished tiny run, made once, and the program called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny import save_tiny
from typer.testing import CliRunner, Result

from palate.cli.main import app

SYSTEM = "Be brief, and end with a question."
PROMPTS = 12


def write_pairs(path: Path) -> Path:
    """Pairs under one system prompt; the first answer of each is the chosen one."""
    rows = [
        {
            "prompt": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"Question {number}"},
            ],
            "chosen": [{"role": "assistant", "content": f"Yes{' really' * number}. And you?"}],
            "rejected": [{"role": "assistant", "content": f"No [bold]{number}[/bold] é."}],
        }
        for number in range(PROMPTS)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A run's folder: 12 pairs, 2 held out, 3 steps of 4, small micro-batches."""
    from palate.config import build_config
    from palate.run import train

    home = tmp_path_factory.mktemp("run")
    config = build_config(
        {
            "name": "tiny",
            "out": str(home / "runs"),
            "model": str(tiny_model_folder),
            "data": {"path": str(write_pairs(home / "pairs.jsonl")), "heldout": 0.2},
            "train": {
                "batch_size": 4,
                "max_steps": 3,
                "tokens_per_microbatch": 200,
                "precision": "fp32",
            },
            "optim": {"lr": 1e-2},
            "evaluate": {"samples": 2, "max_new_tokens": 4},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(home / "cache"))
        return train(config).folder


@pytest.fixture
def palate() -> Callable[..., Result]:
    """`palate("doctor", "--json")`, with what it wrote to both streams."""

    def run(*words: object, typed: str = "") -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], input=typed)

    return run
