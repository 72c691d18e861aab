"""What is decided before the first step, and decided only once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import save_tiny

import palate.train.setup as setting_up
from palate.config import ConfigError, RunConfig
from palate.model import place
from palate.model.adapters import trainable
from palate.progress import Quiet
from palate.train.folder import read_plan, write_plan
from palate.train.reference import LiveReference, ReferenceLogps
from palate.train.setup import Learner, make_split, set_up


def config(model: Path, **settings: Any) -> RunConfig:
    return RunConfig.model_validate({"model": str(model), "data": "d.jsonl", **settings})


def learn(model: Path, folder: Path, *, continues: bool = False, **settings: Any) -> Learner:
    return set_up(config(model, **settings), folder, continues, Quiet())


class Noted(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_decisions_are_written_down(model: Path, tmp_path: Path) -> None:
    learner = learn(model, tmp_path, train={"precision": "fp32"})
    plan = read_plan(tmp_path)
    assert plan == learner.plan
    assert plan is not None
    assert (plan.layout, plan.precision, plan.device) == ("tree", "fp32", "cpu")
    assert plan.threads == torch.get_num_threads()
    assert plan.tokens_per_microbatch is None, "the budget is settled when the data is known"
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["lr"] == learner.lr == 2e-4
    assert facts["trained"] == sum(w.numel() for w in trainable(learner.policy).values())
    # Embedding 272·32; two layers of q and o 32·32, k and v 32·16, three of 32·64, two norms;
    # a last norm. LoRA of rank 16 has 16·(in + out) for each of these matrices.
    assert facts["parameters"] == 8_704 + 2 * (2 * 1_024 + 2 * 512 + 3 * 2_048 + 64) + 32
    assert facts["trained"] == 2 * 16 * (2 * 64 + 2 * 48 + 3 * 96)


def test_a_continued_run_repeats_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where this machine would now decide otherwise."""
    first = learn(model, tmp_path)
    kept = replace(
        first.plan, layout="plain", precision="bf16", threads=1, tokens_per_microbatch=99
    )
    write_plan(tmp_path, kept)
    monkeypatch.setattr(place, "fast_bf16", lambda: False)
    monkeypatch.setattr(setting_up, "threads", lambda: 2)
    again = learn(model, tmp_path, continues=True)
    assert again.plan == kept
    assert (again.policy.layout, again.policy.precision) == ("plain", "bf16")
    assert torch.get_num_threads() == 1
    assert read_plan(tmp_path) == kept


def test_a_new_run_does_not_read_an_old_plan(model: Path, tmp_path: Path) -> None:
    first = learn(model, tmp_path)
    write_plan(tmp_path, replace(first.plan, layout="plain"))
    assert learn(model, tmp_path, continues=False).plan == first.plan


def test_a_device_that_has_gone_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(tmp_path, replace(learn(model, tmp_path).plan, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        learn(model, tmp_path, continues=True)


def test_the_plain_layout_as_the_recipe_says(model: Path, tmp_path: Path) -> None:
    learner = learn(model, tmp_path, train={"layout": "plain"})
    assert learner.plan.layout == "plain"
    assert learner.plan.layout_reason == "as the recipe says"


def test_a_tree_that_is_not_exact_is_refused_or_said_aloud(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.model.probe import Probe

    monkeypatch.setattr(setting_up, "probe", lambda _: Probe("plain", "a sibling leaks"))
    with pytest.raises(ConfigError, match=r"not exact for this model: a sibling leaks"):
        learn(model, tmp_path, train={"layout": "tree"})
    say = Noted()
    learner = set_up(config(model), tmp_path, False, say)
    assert learner.plan.layout == "plain"
    assert "WARNING" in say.notes[0]
    assert "a sibling leaks" in say.notes[0]


def test_the_rate_of_the_recipe_or_the_default(model: Path, tmp_path: Path) -> None:
    assert learn(model, tmp_path, optim={"lr": 0.5}).lr == 0.5
    assert learn(model, tmp_path, adapter={"kind": "full"}).lr == 1e-5


def test_full_fine_tuning_has_a_frozen_reference_of_its_own(model: Path, tmp_path: Path) -> None:
    learner = learn(model, tmp_path, adapter={"kind": "full"})
    assert learner.adapted is None
    reference = learner.reference()
    assert reference is not learner.policy
    assert learner.reference() is reference  # loaded once
    assert not trainable(reference)
    assert len(trainable(learner.policy)) == len(list(learner.policy.parameters()))
    with torch.no_grad():
        next(iter(trainable(learner.policy).values())).add_(1.0)
    own, frozen = next(learner.policy.parameters()), next(reference.parameters())
    assert not torch.equal(own, frozen)


def test_an_adapter_is_switched_off_for_the_reference(model: Path, tmp_path: Path) -> None:
    learner = learn(model, tmp_path)
    assert learner.reference() is learner.policy
    assert all("lora_" in name for name in trainable(learner.policy))


def test_rows_are_limited_by_the_models_own_positions(tmp_path: Path) -> None:
    """GPT-2 has 1,024 learned positions; the recipe's limit is 2,048."""
    folder = save_tiny(tmp_path / "model", "gpt2")
    assert learn(folder, tmp_path).renderer.max_length == 1024
    short = learn(folder, tmp_path, data={"path": "d", "max_length": 100})
    assert short.renderer.max_length == 100


def test_splits_with_and_without_a_reference(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.train.tasks import pair

    from palate.losses.registry import METHODS

    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    examples = [pair(i) for i in range(3)]

    def split(recipe: RunConfig, learner: Learner, method: str, rows: list[Any]) -> Any:
        chosen = METHODS[method]
        return make_split(recipe, learner, chosen, rows, "reference", Quiet(), 40).reference

    live = config(model, train={"reference": "live"})
    cached = config(model)
    learner = learn(model, tmp_path)
    assert isinstance(split(live, learner, "dpo", examples), LiveReference)
    assert not (tmp_path / "cache").exists()
    assert isinstance(split(cached, learner, "dpo", examples), ReferenceLogps)
    assert list((tmp_path / "cache" / "reference").iterdir())
    assert split(cached, learner, "sft", examples) is None
    assert split(cached, learner, "dpo", []) is None
