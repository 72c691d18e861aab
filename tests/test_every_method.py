"""Every recipe runs: three steps of its method on a tiny model, from a file to what ships."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.config import RunConfig, load_config
from palate.losses.method import Method
from palate.losses.registry import METHODS, method_of
from palate.run import Run, train
from palate.train.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("cache")

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))
ROWS = 14
# A judge that knows every answer, and rollouts as large as a test can wait for.
ROLLOUT = ["rollout.prompts=4", "rollout.max_new_tokens=6", "data.max_prompt_length=null"]
JUDGE = [
    "rollout.judge={kind: rule, rule: 'tests.test_every_method:letters'}",
    "rollout.passing=false",
]


def rows(shape: str) -> list[dict[str, Any]]:
    """Data that a method of that shape learns from, and no other shape's."""
    out = []
    for i in range(ROWS):
        prompt, good, bad = f"Question {i}?", f"Yes {i}. And you?", f"No, not {i} at all."
        if shape == "pair":
            out.append({"prompt": prompt, "chosen": good, "rejected": bad})
        elif shape == "labelled":
            out.append({"prompt": prompt, "completion": (good, bad)[i % 2], "label": i % 2 == 0})
        elif shape in {"demonstration", "prompt"}:
            out.append({"prompt": prompt, "completion": good})
        else:
            out.append({"text": f"{prompt} {good} " * 12})
    return out


def letters(prompt: object, answer: str) -> float:
    """The share of an answer that is letters."""
    return sum(c.isalpha() for c in answer) / max(1, len(answer))


def tiny_run(recipe: Path, model: Path, folder: Path, *overrides: str) -> tuple[Method, Run]:
    """The recipe with its model and data replaced, and cut to three steps."""
    written = load_config(recipe)
    method, _ = method_of(written)
    shape, stages = method.data, []
    if written.stages:  # pairs serve all of them, in one file
        shape = "pair"
        kept = [{k: v for k, v in stage.items() if k != "data"} for stage in written.stages]
        stages = [f"stages={json.dumps(kept)}"]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(shape)), encoding="utf-8")
    config = load_config(
        recipe,
        [
            f"out={folder / 'runs'}",
            f"model={{path: {model}}}",
            f"data={{path: {data}, heldout: 0.2, max_length: 128}}",
            "train.max_steps=3",
            "train.batch_size=4",
            "train.eval_every=2",
            "train.precision=fp32",
            "evaluate={samples: 2, max_new_tokens: 4}",
            *stages,
            *(ROLLOUT if written.rollout else []),
            *(JUDGE if written.rollout and written.rollout.judge else []),
            *overrides,
        ],
    )
    return method, train(config)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_three_steps(recipe: Path, model: Path, tmp_path: Path) -> None:
    if load_config(recipe).model.quantize != "none":
        pytest.skip("a tiny model has no matrix that 4 bits suit; tests/train/test_base.py has one")
    method, run = tiny_run(recipe, model, tmp_path)
    lines = [line for line in read_metrics(run.folder / "metrics.jsonl") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(math.isfinite(line["loss"]) for line in lines)
    same = method.online is not None and method.online.fresh == 1  # each rollout begins at ln 2
    assert same or len({line["loss"] for line in lines}) > 1, "nothing was learnt from"
    expected = run.results["step0"]["expected"]
    if expected is not None and method.name in METHODS and is_default(run.config):
        assert lines[0]["loss"] == pytest.approx(expected, rel=1e-7, abs=2e-5)
    assert (run.model / "model.safetensors").is_file()
    if run.config.rollout is not None and run.config.rollout.judge is None:
        return  # nobody could say how good an answer to a held-out prompt is
    held = [
        line for line in read_metrics(run.folder / "metrics.jsonl") if line["kind"] == "heldout"
    ]
    assert [line["step"] for line in held] == [0, 2, 3]


def is_default(config: RunConfig) -> bool:
    """Whether the method has the parameters that its first loss is stated for."""
    method, params = method_of(config)
    return bool(params == method.params())


def test_no_method_is_left_out() -> None:
    named = {method_of(load_config(path))[0].name for path in RECIPES}
    assert set(METHODS) <= named
