"""Whole runs against the reference cache: what changes the values computes them anew, the rest
reads them, and a killed pass goes on where it stopped.

That the first loss is ln 2 says that the values are the right ones: a stale one would move it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.tiny import byte_tokenizer, save_tiny, tiny_model
from transformers import AutoModelForCausalLM

import palate.train.reference as caching
from palate.config import ConfigError, RunConfig
from palate.losses.registry import METHODS
from palate.model.policy import Policy
from palate.run import Run, train
from palate.train.metrics import read_metrics
from palate.train.task import Interrupted

COUNT = 12
NF4 = importlib.util.find_spec("bitsandbytes") is not None
needs_nf4 = pytest.mark.skipif(not NF4, reason="needs palate[quant]")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Question {i}?", "chosen": "Yes" + "!" * i, "rejected": f"No, not {i}."}
        for i in range(COUNT)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Counted:
    """Counts the examples whose reference is computed; `fail_after` kills the pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, self.fail_after = 0, math.inf
        self.real: Callable[..., Any] = caching.score_rows
        monkeypatch.setattr(caching, "score_rows", self)

    def __call__(self, policy: Policy, examples: Any, rows: Any) -> Any:
        if self.rows >= self.fail_after:
            raise KeyboardInterrupt
        self.rows += len(rows)
        return self.real(policy, examples, rows)

    def during(self, run: Callable[[], Run]) -> int:
        """Examples computed by one run, whose first loss must be ln 2."""
        before = self.rows
        folder = run().folder
        assert first_loss(folder) == pytest.approx(math.log(2), abs=1e-6)
        return self.rows - before


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def first_loss(folder: Path) -> float:
    lines = read_metrics(folder / "metrics.jsonl")
    return float(next(line["loss"] for line in lines if line["kind"] == "train"))


def recipe(model: Path, pairs: Path, **changes: Any) -> RunConfig:
    """One step in fp32; `a__b` sets b of section a."""
    raw: dict[str, Any] = {
        "out": str(pairs.parent / "runs"),
        "model": {"path": str(model)},
        "data": {"path": str(pairs), "heldout": 0},
        "method": {"name": "dpo"},
        "adapter": {"rank": 4},
        "optim": {"lr": 1e-2},
        "train": {
            "batch_size": 4,
            "max_steps": 1,
            "precision": "fp32",
            "tokens_per_microbatch": 100,
        },
        "evaluate": {"samples": 0},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            raw[section][name] = value
        else:
            raw[section] = value
    return RunConfig.model_validate(raw)


SAME: dict[str, dict[str, Any]] = {
    "beta": {"method__beta": 0.5},
    "loss": {"method__name": "other"},
    "output": {"name": "elsewhere"},
    "rate": {"optim__lr": 3e-3, "seed": 7},
    "rank": {"adapter__rank": 8},
    "every weight": {"adapter__kind": "full"},
}


def test_what_changes_no_value_computes_nothing(
    model: Path, pairs: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "other", replace(METHODS["dpo"], name="other"))
    # the order of the examples is that of the file: the seed must not matter to the cache
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT
    for what, changes in SAME.items():
        assert counted.during(lambda c=changes: train(recipe(model, pairs, **c))) == 0, what


DIFFERENT: dict[str, tuple[dict[str, Any], int]] = {
    "truncation": ({"data__max_length": 42}, 0),
    "template": ({"data__template": "raw"}, COUNT),
    "system prompt": ({"data__system": "Be brief."}, COUNT),
    "precision": ({"train__precision": "bf16"}, COUNT),
    "layout": ({"train__layout": "plain"}, COUNT),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_changes_a_value_computes_it_anew(
    model: Path, pairs: Path, counted: Counted, what: str
) -> None:
    changes, expected = DIFFERENT[what]
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT
    before = counted.rows
    config = recipe(model, pairs, **changes)
    folder = train(config).folder
    computed = counted.rows - before
    if what == "truncation":  # longer rows are dropped, and those that stay are another data set
        assert 0 < computed < COUNT
    else:
        assert computed == expected
    exact = 1e-6 if config.train.precision == "fp32" else 5e-2
    assert first_loss(folder) == pytest.approx(math.log(2), abs=exact)
    assert counted.during(lambda: train(recipe(model, pairs))) == 0, "the first is still there"


def test_another_chat_template_on_the_same_weights(
    model: Path, pairs: Path, counted: Counted
) -> None:
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT
    template = byte_tokenizer().chat_template
    byte_tokenizer(template.replace("<|end|>", " <|end|>")).save_pretrained(model)
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT


def test_other_weights_under_the_same_path(model: Path, pairs: Path, counted: Counted) -> None:
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT
    save_tiny(model, seed=5)
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT


def test_another_version_of_the_layout(
    model: Path, pairs: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT
    monkeypatch.setattr(caching, "LAYOUT_VERSION", caching.LAYOUT_VERSION + 1)
    assert counted.during(lambda: train(recipe(model, pairs))) == COUNT


def test_another_kind_of_device_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(tiny_model())
    found = set()
    for kind in ("cpu", "cuda:0", "cuda:1", "mps"):
        device = torch.device(kind)
        monkeypatch.setattr(Policy, "device", property(lambda _, d=device: d))
        found.add(caching.cache_key([], "weights", policy))
    assert len(found) == 3, "cpu, cuda and mps"


@needs_nf4
def test_4_bits_are_other_weights(model: Path, pairs: Path, counted: Counted) -> None:
    for changes, expected in (
        ({}, COUNT),
        ({"model__quantize": "nf4"}, COUNT),
        ({}, 0),
        ({"model__quantize": "nf4", "method__beta": 0.3}, 0),
    ):
        computed = counted.during(lambda c=changes: train(recipe(model, pairs, **c)))
        assert computed == expected


def test_a_killed_pass_computes_only_the_rest(
    model: Path, pairs: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_SHARD_TOKENS", 24)  # a shard every example or two
    config = recipe(model, pairs)
    counted.fail_after = COUNT // 2
    with pytest.raises(KeyboardInterrupt):
        train(config)
    counted.fail_after = math.inf
    kept = len(list((pairs.parent / "cache").glob("reference/*/shard-*/logps.safetensors")))
    assert kept >= 2
    before = counted.rows
    again = counted.during(lambda: train(config.model_copy(update={"resume": "auto"})))
    assert 0 < again < COUNT
    assert before + again < 2 * COUNT
    assert counted.during(lambda: train(config)) == 0


@pytest.fixture
def adapter(model: Path, pairs: Path) -> Path:
    """The adapter of a finished run."""
    return train(recipe(model, pairs, name="first", train__max_steps=3)).folder / "adapter"


@pytest.mark.parametrize("reference", ["cached", "live"])
def test_going_on_from_an_adapter_starts_at_ln_2(
    model: Path, pairs: Path, adapter: Path, counted: Counted, reference: str
) -> None:
    """The reference is the adapter as it was saved, not the base, which would give another loss
    at the first step; and it stays there while the policy moves.
    """
    config = recipe(
        model, pairs, adapter__path=str(adapter), train__reference=reference, train__max_steps=3
    )
    computed = counted.during(lambda: train(config))
    assert computed == (COUNT if reference == "cached" else 0)
    lines = [x for x in read_metrics(config.folder / "metrics.jsonl") if x["kind"] == "train"]
    assert lines[0]["abs_h"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["abs_h"] > 1e-3
    saved = load_file(config.folder / "adapter" / "adapter_model.safetensors")
    start = load_file(adapter / "adapter_model.safetensors")
    assert set(saved) == set(start), "only the trained one ships"
    assert any(not torch.equal(saved[name], start[name]) for name in start)
    base = AutoModelForCausalLM.from_pretrained(model)
    shipped = AutoModelForCausalLM.from_pretrained(config.folder / "model")
    beside = PeftModel.from_pretrained(base, config.folder / "adapter")
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        assert (shipped(ids).logits - beside(ids).logits).abs().max() < 1e-5


def test_cached_and_live_train_the_same(model: Path, pairs: Path, adapter: Path) -> None:
    found = []
    for reference in ("cached", "live"):
        config = recipe(
            model,
            pairs,
            name=reference,
            adapter__path=str(adapter),
            train__reference=reference,
            train__max_steps=4,
        )
        lines = read_metrics(train(config).folder / "metrics.jsonl")
        found.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_the_adapter_belongs_to_the_key(
    model: Path, pairs: Path, adapter: Path, counted: Counted
) -> None:
    """The base's values are there already, from the run that made the adapter."""
    assert counted.during(lambda: train(recipe(model, pairs))) == 0
    config = recipe(model, pairs, adapter__path=str(adapter))
    assert counted.during(lambda: train(config)) == COUNT
    assert (
        counted.during(lambda: train(recipe(model, pairs, **BETA, adapter__path=str(adapter)))) == 0
    )
    _move(adapter)
    assert counted.during(lambda: train(config)) == COUNT


BETA = {"method__beta": 0.4}


def _move(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name: w + 0.01 for name, w in load_file(file).items()}, file, {"format": "pt"})


def test_a_run_does_not_continue_beside_another_adapter(
    model: Path, pairs: Path, adapter: Path
) -> None:
    config = recipe(model, pairs, adapter__path=str(adapter), train__max_steps=4)
    with pytest.raises(Interrupted):
        train(config, should_stop=(config.folder / "metrics.jsonl").exists)
    again = config.model_copy(update={"resume": "auto"})
    _move(adapter)
    with pytest.raises(ConfigError, match=r"adapter in adapter.path is not what it was"):
        train(again)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", pytest.param("nf4", marks=needs_nf4)])
def test_an_interrupted_run_from_an_adapter_ends_with_the_same_bits(
    model: Path, pairs: Path, adapter: Path, quantize: str
) -> None:
    def config(name: str) -> RunConfig:
        return recipe(
            model,
            pairs,
            name=name,
            adapter__path=str(adapter),
            model__quantize=quantize,
            optim__name="adamw8bit",
            train__precision="bf16",
            train__weights="bf16",
            train__max_steps=4,
        )

    whole, parts = config("whole"), config("parts")
    train(whole)
    file = parts.folder / "metrics.jsonl"

    def after_two_steps() -> bool:
        lines = read_metrics(file) if file.exists() else []
        return any(line["kind"] == "train" and line["step"] >= 2 for line in lines)

    with pytest.raises(Interrupted):
        train(parts, should_stop=after_two_steps)
    train(parts.model_copy(update={"resume": "auto"}))
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes(), name


def test_a_folder_that_is_no_such_adapter_is_refused(
    tmp_path: Path, model: Path, pairs: Path, adapter: Path
) -> None:
    def said(**changes: Any) -> str:
        with pytest.raises(ConfigError) as error:
            train(recipe(model, pairs, name="refused", **changes))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "has no adapter_config.json" in said(adapter__path=str(tmp_path))
    assert "made with rank=4" in said(adapter__path=str(adapter), adapter__rank=8)
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    file = other / "adapter_model.safetensors"
    weights = load_file(file)
    del weights[sorted(weights)[0]]
    save_file(weights, file, {"format": "pt"})
    assert "made for another model" in said(adapter__path=str(other))
    settings = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**settings, "bias": "all"}))
    assert "no LoRA matrices" in said(adapter__path=str(other))
