"""From examples and a learner to a task: what follows from the data follows again on resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import byte_tokenizer

from palate.config import ConfigError, RunConfig
from palate.losses.kto import KTO
from palate.losses.registry import METHODS, find
from palate.records import Completion, Example, Message
from palate.run import train
from palate.tokens.render import Renderer
from palate.train.assemble import render, resolved
from palate.train.metrics import read_metrics
from palate.train.task import Interrupted

pytestmark = pytest.mark.usefixtures("cache")


def thumb(number: int, label: bool | None) -> Example:
    answer = Completion((Message("assistant", f"answer {number}"),), label=label)
    return Example((Message("user", f"question {number}"),), (answer,))


def test_weights_follow_from_the_counts_of_the_training_data() -> None:
    """Six up, two down: λ_U = 6/2 / (4/3) = 2.25, and λ_D n_D / (λ_U n_U) = 6 / 4.5 = 4/3."""
    renderer = Renderer(byte_tokenizer())
    rendered = render(renderer, [thumb(i, i < 6) for i in range(8)], "labelled")
    assert resolved(METHODS["kto"], KTO(), rendered) == KTO(0.1, 1.0, 2.25)
    assert resolved(METHODS["kto"], KTO(undesirable=1.0), rendered).undesirable == 1.0
    dpo = METHODS["dpo"].params()
    assert resolved(METHODS["dpo"], dpo, rendered) is dpo
    method, params = find([{"name": "kto"}])
    assert resolved(method, params, rendered) == KTO(0.1, 1.0, 2.25)


def test_a_text_becomes_as_many_examples_as_it_has_stretches() -> None:
    renderer = Renderer(byte_tokenizer(), max_length=8)
    texts = [replace(thumb(0, None), prompt=()), replace(thumb(1, None), prompt=())]
    # "answer 0" and an end: 9 tokens, of which 8 are predicted, 7 a stretch
    assert [one.example_id for one in render(renderer, texts, "text")] == [
        texts[0].id,
        texts[0].id,
        texts[1].id,
        texts[1].id,
    ]


# --- whole runs -------------------------------------------------------------------------


def recipe(model: Path, home: Path, method: str, **settings: Any) -> RunConfig:
    """Four steps over two epochs, of 8 examples."""
    home.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for i in range(10):
        if METHODS[method].shape == "pair":
            rows.append({"prompt": f"Q{i}?", "chosen": f"Yes {i}.", "rejected": f"No, {i}."})
        elif METHODS[method].shape == "labelled":
            rows.append({"prompt": f"Q{i}?", "completion": f"Well, {i}.", "label": i % 4 != 0})
        else:
            rows.append({"text": f"There were {i} words. " * 4})
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base: dict[str, Any] = {
        "out": str(home),
        "model": str(model),
        "data": {"path": str(home / "data.jsonl"), "heldout": 0.2, "max_length": 60},
        "method": method,
        "adapter": {"rank": 4},
        "optim": {"lr": 5e-3},
        "train": {
            "batch_size": 4,
            "max_steps": 4,
            "epochs": 2,
            "precision": "fp32",
            "tokens_per_microbatch": 90,
        },
        "evaluate": {"samples": 0},
    }
    return RunConfig.model_validate({**base, **settings})


def once_at(folder: Path, step: int) -> Callable[[], bool]:
    def should_stop() -> bool:
        path = folder / "metrics.jsonl"
        lines = read_metrics(path) if path.is_file() else []
        return any(line["kind"] == "train" and line["step"] >= step for line in lines)

    return should_stop


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kto", "bco", "beta-dpo", "reward", "pretrain", "tdpo"])
def test_interrupted_and_continued_bit_for_bit(tmp_path: Path, model: Path, method: str) -> None:
    """In the second epoch, of which KTO has mismatches of its own."""
    whole = train(recipe(model, tmp_path / "whole", method))
    config = recipe(model, tmp_path / "again", method, resume="auto")
    with pytest.raises(Interrupted):
        train(config, should_stop=once_at(config.folder, 3))
    again = train(config)
    assert again.results["method"] == whole.results["method"]
    if method == "kto":
        assert again.results["method"]["undesirable"] > 1
    ours, theirs = (
        {
            f"{part}/{name}": value
            for part in ("weights", "optimizer", "method")
            for name, value in load_file(
                one.folder / "checkpoints" / "step-4" / f"{part}.safetensors"
            ).items()
        }
        for one in (again, whole)
    )
    assert ours.keys() == theirs.keys()
    if method == "reward":
        assert float(ours["weights/scalar.weight"].abs().max()) > 0
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    ours, theirs = (load_file(one.model / "model.safetensors") for one in (again, whole))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    lines = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(one)]
        for one in (again.folder / "metrics.jsonl", whole.folder / "metrics.jsonl")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("pretrain", {"train": {"best": "accuracy"}}, "pretrain has no accuracy"),
        ("tdpo", {"train": {"reference": "cached"}}, "whole distribution.*live"),
        ("reward", {"train": {"best": "loss"}, "data": {"heldout": 0}}, "needs held-out examples"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_first_step(
    tmp_path: Path, model: Path, method: str, settings: dict[str, Any], said: str
) -> None:
    config = recipe(model, tmp_path, method)
    raw = config.model_dump(mode="json")
    for section, values in settings.items():
        raw[section] |= values
    with pytest.raises(ConfigError, match=said):
        train(RunConfig.model_validate(raw))
    assert not (config.folder / "metrics.jsonl").exists()


def test_one_prompt_for_most_examples_is_refused_for_kto(tmp_path: Path, model: Path) -> None:
    config = recipe(model, tmp_path, "kto", data={"path": str(tmp_path / "d.jsonl"), "heldout": 0})
    rows = [{"prompt": "Q?", "completion": f"Well, {i}.", "label": i % 2 == 0} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="4 of 4 examples have the same prompt"):
        train(config)
