"""A run with a rollout from a file to what ships, and the mistakes that end it with one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.config import ConfigError, RunConfig, build_config
from palate.ingest import IngestError
from palate.run import Run, train
from palate.train.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("cache")

RULE = "def letters(prompt, text):\n    return sum(c.isalpha() for c in text) / max(1, len(text))\n"


def recipe(model: Path, folder: Path, method: Any = "grpo", **settings: Any) -> RunConfig:
    rules, prompts = folder / "rules.py", folder / "prompts.txt"
    rules.write_text(RULE, encoding="utf-8")
    if not prompts.exists():
        prompts.write_text("".join(f"Say {i}\n" for i in range(12)), encoding="utf-8")
    rollout = {"judge": f"{rules}:letters", "prompts": 3, "answers": 2, "max_new_tokens": 4}
    return build_config(
        {
            "out": str(folder / "runs"),
            "model": str(model),
            "data": {"path": str(prompts), "heldout": 0.2, "max_length": 64},
            "method": method,
            "train": {"max_steps": 2, "batch_size": 6, "precision": "fp32"},
            "evaluate": {"samples": 2, "max_new_tokens": 4},
            "rollout": {**rollout, **settings},
        }
    )


def test_from_a_file_of_prompts_to_a_model(model: Path, tmp_path: Path) -> None:
    run: Run = train(recipe(model, tmp_path))
    assert (run.model / "model.safetensors").is_file()
    told = run.results["rollouts"]
    assert (told["count"], told["answers"], told["failed"]) == (2, 12, 0)
    assert {"reward", "length", "kl"} <= set(told["last"])
    assert run.results["heldout"]["n"] == 2
    assert 0 <= run.results["heldout"]["reward"] <= 1
    assert run.results["data"] == "prompt"
    page = run.report.read_text(encoding="utf-8")
    assert "What the judge gave the answers of each rollout." in page
    answers = (run.folder / "rollouts" / "step-1.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(answers) == 3
    assert len(json.loads(answers[0])["answers"]) == 2


def test_files_of_answers_give_prompts_too(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(9)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = recipe(model, tmp_path)
    both = [str(data), str(tmp_path / "prompts.txt")]
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": both})})
    run = train(config)
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert sum(line["kind"] == "rollout" for line in lines) == 2


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("grpo", {"judge": None}, "grpo needs a judge: rollout.judge"),
        ("spin", {}, "spin asks no judge: leave rollout.judge out"),
        ("grpo", {"answers": 1}, "grpo compares answers to the same prompt: rollout.answers=1"),
        (
            "grpo",
            {"max_new_tokens": 64},
            "more than data.max_length=64: set data",
        ),
        ("kto", {}, "kto does not learn from samples of its own: leave `rollout` out"),
        ("tdpo", {}, "tdpo cannot learn from samples of its own yet"),
    ],
)
def test_mistakes_have_one_line(
    model: Path, tmp_path: Path, method: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        train(recipe(model, tmp_path, method, **settings))


def test_a_method_that_samples_asks_for_a_rollout(model: Path, tmp_path: Path) -> None:
    config = recipe(model, tmp_path).model_copy(update={"rollout": None})
    with pytest.raises(ValueError, match="grpo learns from answers that it samples: add a section"):
        train(config)


def test_a_judge_that_cannot_be_built_ends_it_before_any_work(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file nowhere"):
        train(recipe(model, tmp_path, judge="nowhere.py:good"))
    assert not (tmp_path / "runs").exists()


def test_no_prompt_at_all(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises((IngestError, ConfigError)):
        train(recipe(model, tmp_path))
