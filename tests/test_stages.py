"""Stages: each starts from the one before, holds out what it held out, and trains once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import palate.run as running
import palate.stages as staging
from palate.config import ConfigError, RunConfig, dump_config, load_config
from palate.model.load import weights_hash
from palate.progress import Quiet
from palate.run import Run, train
from palate.stages import examined, last_stage, stage_configs
from palate.store.snapshot import read_snapshot
from palate.train.folder import read_plan
from palate.train.metrics import read_metrics
from palate.train.task import Interrupted

pytestmark = pytest.mark.usefixtures("cache")

PROMPTS = 16
STAGES: list[Any] = ["sft", {"method": "dpo", "train": {"max_steps": 3}}]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl", range(PROMPTS))


def write_pairs(path: Path, numbers: range) -> Path:
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Yes {i}. And you?", "rejected": f"No, {i}."}
        for i in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(
    model: Path, data: Path, out: Path, stages: list[Any] = STAGES, **more: Any
) -> RunConfig:
    base: dict[str, Any] = {
        "name": "both",
        "out": str(out),
        "model": str(model),
        "data": {"path": str(data), "heldout": 0.25},
        "adapter": {"rank": 4},
        "optim": {"lr": 5e-3},
        "train": {
            "batch_size": 4,
            "max_steps": 2,
            "eval_every": 2,
            "precision": "fp32",
            "tokens_per_microbatch": 400,
        },
        "evaluate": {"samples": 0},
        "stages": stages,
    }
    return RunConfig.model_validate({**base, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path, pairs: Path) -> Run:
    """Other tests only read its folder, or copy it."""
    return train(recipe(model, pairs, tmp_path_factory.mktemp("finished")))


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(folder / "metrics.jsonl") if line["kind"] == "train"]


def test_the_second_stage_starts_from_and_refers_to_the_first(finished: Run, model: Path) -> None:
    whole = finished.folder.parent
    assert sorted(p.name for p in whole.iterdir()) == [
        ".lock",
        "1-sft",
        "2-dpo",
        "config.yaml",
        "results.json",
    ]
    first, second = whole / "1-sft", whole / "2-dpo"
    assert finished.folder == second
    assert finished.model == second / "model"
    assert [len(steps(one)) for one in (first, second)] == [2, 3]
    for one in (first, second):
        assert (one / "report.html").is_file()
        assert (one / "model" / "model.safetensors").is_file()
    assert load_config(second / "config.yaml").model.path == str(first / "model")
    plan = read_plan(second)
    assert plan is not None
    middle = AutoModelForCausalLM.from_pretrained(first / "model", dtype=torch.float32)
    assert plan.base_sha256 == weights_hash(middle)
    start = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    assert plan.base_sha256 != weights_hash(start)
    # the reference is the model that it starts from
    assert steps(second)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert steps(second)[-1]["loss"] != steps(second)[0]["loss"]


def test_the_results_are_those_of_each_stage(finished: Run) -> None:
    found = json.loads((finished.folder.parent / "results.json").read_text())
    assert [one["stage"] for one in found["stages"]] == ["1-sft", "2-dpo"]
    for one in found["stages"]:
        name = one.pop("stage")
        assert one == json.loads((finished.folder.parent / name / "results.json").read_text())
    assert found["stages"][1] == finished.results


def sides(folder: Path) -> tuple[set[str], set[str]]:
    data = read_snapshot(folder / "snapshot")
    return {e.prompt_key for e in data.train}, {e.prompt_key for e in data.heldout}


def test_held_out_prompts_stay_on_their_side(tmp_path: Path, model: Path) -> None:
    """The second stage's data overlaps the first's, and is divided by another seed."""
    first = write_pairs(tmp_path / "first.jsonl", range(12))
    second = write_pairs(tmp_path / "second.jsonl", range(6, 18))
    stages = ["sft", {"method": "dpo", "data": str(second), "seed": 5}]
    run = train(recipe(model, first, tmp_path / "runs", stages))
    whole = run.folder.parent
    (trained, held), (trained_2, held_2) = sides(whole / "1-sft"), sides(whole / "2-dpo")
    assert len(trained | held) == len(trained_2 | held_2) == 12
    assert not trained & held_2
    assert not held & trained_2
    assert held & (trained_2 | held_2) <= held_2
    assert load_config(whole / "2-dpo" / "config.yaml").data.heldout == 0.25
    alone = train(recipe(model, second, tmp_path / "alone", [], seed=5, method="dpo", name="alone"))
    assert sides(alone.folder)[1] != held_2, "or the test shows nothing"


def once(folder: Path, step: int) -> Callable[[], bool]:
    """Asks for a stop when that stage's metrics have a line of that step."""

    def should_stop() -> bool:
        path = folder / "metrics.jsonl"
        return path.is_file() and any(line["step"] >= step for line in steps(folder))

    return should_stop


def shipped(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1-sft", "2-dpo"])
def test_interrupted_in_either_stage_and_continued(
    tmp_path: Path, model: Path, pairs: Path, finished: Run, stage: str
) -> None:
    config = recipe(model, pairs, tmp_path, resume="auto")
    with pytest.raises(Interrupted) as stopped:
        train(config, should_stop=once(config.folder / stage, 1))
    assert stopped.value.folder == config.folder / stage
    assert not (config.folder / "results.json").is_file()
    before = (config.folder / "1-sft" / "metrics.jsonl").read_bytes()
    run = train(config)
    if stage == "2-dpo":
        assert (config.folder / "1-sft" / "metrics.jsonl").read_bytes() == before
    for name, value in shipped(finished).items():
        assert torch.equal(shipped(run)[name], value), name
    assert sides(run.folder) == sides(finished.folder)


def test_a_complete_run_is_not_trained_again(
    finished: Run, model: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained_again(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(running, "run_loop", trained_again)
    whole = finished.folder.parent
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("model.safetensors")}
    again = train(recipe(model, pairs, whole.parent, resume="auto"))
    assert again.folder == finished.folder
    assert again.results == finished.results
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("model.safetensors")} == before
    changed = recipe(model, pairs, whole.parent, resume="auto", seed=3)
    with pytest.raises(ConfigError, match=r"is complete with other settings \(seed\)"):
        train(changed)
    plain = recipe(model, pairs, whole.parent, [], resume="auto")
    with pytest.raises(ConfigError, match=r"is complete with other settings \(.*stages"):
        train(plain)


def nothing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages are named and not trained: each leaves a file and a snapshot of nothing."""
    seen: list[str] = []

    def fake(config: RunConfig, **_: object) -> Run:
        seen.append(config.name)
        config.folder.mkdir(parents=True, exist_ok=True)
        (config.folder / "trained").write_text(str(config.seed))
        return Run(config.folder, config, {"of": config.name})

    monkeypatch.setattr(staging, "train", fake)
    empty = SimpleNamespace(train=[], heldout=[])
    monkeypatch.setattr(staging, "read_snapshot", lambda _: empty)
    return seen


def test_without_resume_an_earlier_run_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = nothing(monkeypatch)
    for seed in (1, 2):
        train(recipe(tmp_path, tmp_path, tmp_path / "runs", seed=seed))
    assert seen == ["1-sft", "2-dpo"] * 2
    for name, seed in (("both", "2"), ("both.1", "1")):
        folder = tmp_path / "runs" / name
        assert (folder / "2-dpo" / "trained").read_text() == seed
        assert (folder / "results.json").is_file()
        assert load_config(folder / "config.yaml").seed == int(seed)


def test_another_recipe_does_not_continue_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing(monkeypatch)
    train(recipe(tmp_path, tmp_path, tmp_path / "runs"))
    (tmp_path / "runs" / "both" / "results.json").unlink()
    other = recipe(tmp_path, tmp_path, tmp_path / "runs", ["sft", "ipo"], resume="auto")
    with pytest.raises(ConfigError, match=r"was started with other settings \(stages\)"):
        train(other)


def test_what_may_change_of_a_run_may_not_of_a_stage_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More epochs: refused, and not written down, so that the run's own recipe goes on."""
    nothing(monkeypatch)
    first = recipe(tmp_path, tmp_path, tmp_path / "runs")
    train(first)
    (first.folder / "results.json").unlink()
    stage = stage_configs(first)[0]
    (stage.folder / "config.yaml").write_text(dump_config(stage))
    (stage.folder / "results.json").write_text("{}")
    more = first.train.model_copy(update={"epochs": 5.0})
    changed = first.model_copy(update={"train": more, "resume": "auto"})
    with pytest.raises(ConfigError, match="stage 1 is complete with other settings than these"):
        train(changed)
    assert load_config(first.folder / "config.yaml") == first
    train(first.model_copy(update={"resume": "auto"}))
    assert (first.folder / "results.json").is_file()


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["sft", {"method": "dpo", "train": {"epoch": 2}}], "stage 2: .*train.epoch'.*epochs"),
        ([{"method": "sft", "modle": "x"}], "stage 1: unknown key 'modle'; did you mean 'model'"),
        ([{"method": "sft", "name": "x"}], "stage 1: 'name' is the recipe's and not a stage's"),
        ([{"method": "sft", "stages": []}], "stage 1: 'stages' is the recipe's"),
        (["sft", {"method": "dpo", "out": "x"}], "stage 2: 'out' is the recipe's"),
        (["sft", {"method": {"beta": 1}}], "stage 2: .*a method needs a name"),
        (["sft", {"method": "dpo", "optim": {"lr": -1}}], "stage 2: 'optim.lr'"),
        (["sft", "dpoo"], "stage 2: no method is called 'dpoo'; did you mean 'dpo'"),
        (["sft", {"method": {"name": "dpo", "bta": 1}}], "stage 2: .*bta.*beta"),
        ([{"method": {"name": "exo", "epsilon": 0}}], "stage 1: .*epsilon"),
    ],
)
def test_what_is_wrong_in_a_stage_is_one_line_before_any_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: list[Any], said: str
) -> None:
    seen = nothing(monkeypatch)
    with pytest.raises(ConfigError, match=said) as caught:
        train(recipe(tmp_path, tmp_path, tmp_path / "runs", stages))
    assert "\n" not in str(caught.value)
    assert seen == []
    assert not (tmp_path / "runs").exists()


def configs(*stages: Any, **more: Any) -> list[RunConfig]:
    return stage_configs(recipe(Path("base"), Path("d.jsonl"), Path("runs"), list(stages), **more))


def test_what_follows_from_the_recipe() -> None:
    first, second, third = configs("sft", {"method": "dpo", "train": {"epochs": 2}}, "dpo")
    assert [c.name for c in (first, second, third)] == ["1-sft", "2-dpo", "3-dpo"]
    assert first.folder == Path("runs/both/1-sft")
    assert [c.model.path for c in (first, second, third)] == [
        "base",
        "runs/both/1-sft/model",
        "runs/both/2-dpo/model",
    ]
    assert second.train.epochs == 2
    assert second.train.batch_size == 4, "the section's other settings stay"
    assert third.train.epochs == 1
    assert not second.stages


def test_a_stage_may_say_what_it_starts_from() -> None:
    assert configs("sft", {"method": "dpo", "model": "other"})[1].model.path == "other"
    assert configs("sft", {"method": "dpo", "model": {"path": "other"}})[1].model.path == "other"
    second = configs("sft", {"method": "dpo", "model": {"trust_remote_code": True}})[1]
    assert second.model.trust_remote_code
    assert second.model.path == "runs/both/1-sft/model", "other settings of the model name none"


def test_short_forms_keep_the_rest_of_their_section() -> None:
    stage = {"method": "dpo", "data": "more.jsonl", "adapter": "full"}
    second = configs("sft", stage)[1]
    assert (second.data.path, second.data.heldout) == ("more.jsonl", 0.25)
    assert (second.adapter.kind, second.adapter.rank) == ("full", 4)
    several = configs("sft", {"method": "dpo", "data": ["a", "b"]})[1]
    assert (several.data.path, several.data.heldout) == (["a", "b"], 0.25)


def test_a_saved_adapter_is_the_first_stages_alone() -> None:
    """It is merged into what that one ships; another can be named for a later stage."""
    adapter = {"rank": 4, "path": "saved"}
    first, second = configs("sft", "dpo", adapter=adapter)
    assert (first.adapter.path, second.adapter.path) == ("saved", None)
    named = configs("sft", {"method": "dpo", "adapter": {"path": "mine"}}, adapter=adapter)[1]
    assert (named.adapter.path, named.adapter.rank) == ("mine", 4)


def test_a_method_is_taken_whole() -> None:
    method = {"name": "dpo", "beta": 0.3}
    first, second, third = configs(
        {"train": {"epochs": 3}}, "ipo", {"method": [{"name": "dpo"}, "nll"]}, method=method
    )
    assert first.method == method
    assert first.name == "1-dpo"
    assert second.method == {"name": "ipo"}
    assert third.name == "3-dpo+nll"


def test_stages_can_be_looked_at_before_any_has_trained() -> None:
    stages = ["sft", "dpo", {"method": "dpo", "model": "other"}, "ipo"]
    found = examined(recipe(Path("base"), Path("d.jsonl"), Path("runs"), stages))
    assert [one.model.path for one in found] == ["base", "base", "other", "other"]


def test_the_last_stage_that_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing(monkeypatch)
    train(recipe(tmp_path, tmp_path, tmp_path / "runs"))
    whole = tmp_path / "runs" / "both"
    assert last_stage(whole) == whole / "2-dpo"
    moved = whole.rename(tmp_path / "elsewhere")
    assert last_stage(moved) == moved / "2-dpo"
    (moved / "2-dpo" / "trained").unlink()
    (moved / "2-dpo").rmdir()
    assert last_stage(moved) == moved / "1-sft"


def test_each_stage_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing(monkeypatch)

    class Listening(Quiet):
        def __init__(self) -> None:
            self.said: list[str] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    say = Listening()
    train(recipe(tmp_path, tmp_path, tmp_path / "runs"), reporter=say)
    folder = tmp_path / "runs" / "both"
    assert say.said == [
        f"stage 1 of 2: sft, in {folder / '1-sft'}",
        f"stage 2 of 2: dpo, in {folder / '2-dpo'}",
    ]
