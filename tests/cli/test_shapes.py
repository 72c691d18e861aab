"""The commands on recipes and runs that are no pairs: thumbs, text, reward models, stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from palate.cli.runs import run_folder
from palate.config import build_config, load_config
from palate.records import canonical_json
from palate.run import train
from palate.store.snapshot import read_snapshot

pytestmark = pytest.mark.usefixtures("cache")

Palate = Callable[..., Result]
ROWS: dict[str, list[dict[str, Any]]] = {
    "pair": [
        {"prompt": f"Question {i}?", "chosen": f"Yes {i}. And you?", "rejected": f"No, {i}."}
        for i in range(12)
    ],
    "labelled": [
        {"prompt": f"Question {i}?", "completion": f"Answer {i}.", "label": i % 3 != 0}
        for i in range(12)
    ],
    "text": [{"text": f"Once there were {i} words. " * 9} for i in range(12)],
}
STAGES = [{"method": "sft"}, {"method": "dpo", "train": {"max_steps": 2}}]
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "kto": ("labelled", {"method": "kto"}),
    "reward": ("pair", {"method": "reward"}),
    "pretrain": ("text", {"method": "pretrain", "data": {"max_length": 64}}),
    "tr-dpo": ("pair", {"method": {"name": "tr-dpo", "tau": 1}}),
    "sum": ("pair", {"method": [{"name": "dpo"}, {"name": "nll", "weight": 0.2}]}),
    "stages": ("pair", {"stages": STAGES}),
}


def written(home: Path, model: Path, name: str) -> Path:
    """The recipe's file, with its data beside it."""
    shape, settings = RECIPES[name]
    data = home / f"{shape}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[shape]), encoding="utf-8")
    raw = {
        "name": name,
        "out": str(home / "runs"),
        "model": str(model),
        "train": {"batch_size": 4, "max_steps": 3, "precision": "fp32"},
        "evaluate": {"samples": 0},
        **settings,
        "data": {"path": str(data), "heldout": 0.2, **settings.get("data", {})},
    }
    path = home / f"{name}.yaml"
    path.write_text(canonical_json(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path
) -> Callable[[str], Path]:
    """The folder of a finished run of a recipe, made when it is first asked for."""
    home, done = tmp_path_factory.mktemp("shapes"), {}

    def of(name: str) -> Path:
        if name not in done:
            config = load_config(written(home, tiny_model_folder, name))
            train(config)
            done[name] = config.folder
        return done[name]

    return of


# --- doctor -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "stages"])
def test_the_doctor_knows_every_shape(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path, name: str
) -> None:
    done = palate("doctor", written(tmp_path, tiny_model_folder, name), "--json")
    assert done.exit_code == 0, done.output
    needs = json.loads(done.stdout)["recipe"]
    assert needs["train"] > 0
    assert needs["heldout"] > 0
    assert needs["work"]["steps"] == 3
    assert (needs["memory"]["reference"] > 0) == (name == "tr-dpo"), "a second model, or none"
    assert (needs["reference_seconds"] > 0) == (name not in {"reward", "pretrain"})


def test_the_doctor_looks_at_each_stage(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path
) -> None:
    """The second starts from a model that is not there yet: it has the first's sizes."""
    recipe = written(tmp_path, tiny_model_folder, "stages")
    done = palate("doctor", recipe)
    assert done.exit_code == 0, done.output
    for stage in ("1-sft", "2-dpo"):
        assert f"needs in stage {stage} (rough estimates)" in done.stdout
    found = json.loads(palate("doctor", recipe, "--json").stdout)
    assert "recipe" not in found
    first, second = found["stages"]
    assert first["reference_seconds"] == 0 < second["reference_seconds"]
    assert first["parameters"] == second["parameters"]
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_a_stage_is_one_line(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path
) -> None:
    recipe = written(tmp_path, tiny_model_folder, "stages")
    for word in ("doctor", "train"):
        done = palate(word, recipe, "stages=[sft, {method: dpo, trian: {epochs: 2}}]")
        assert done.exit_code == 2
        said = done.output.splitlines()[-1]
        assert said == "error: stage 2: unknown key 'trian'; did you mean 'train'?"
    done = palate("train", recipe, "stages.0.seed=3")
    assert done.exit_code == 2
    assert "stages is a list, of which no part can be set" in done.output


# --- trace ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kto", "reward", "tr-dpo", "sum"])
def test_an_example_of_every_shape_is_traced(
    palate: Palate, runs: Callable[[str], Path], name: str
) -> None:
    folder = runs(name)
    for example in ("train:1", "heldout:0"):
        done = palate("data", "trace", example, "--run", folder)
        assert done.exit_code == 0, done.output
        assert ("step " in done.stdout) == (example == "train:1")
    if name == "kto":
        label = read_snapshot(folder / "snapshot").heldout[0].completions[0].label
        assert ("thumb up" if label else "thumb down") in done.stdout


@pytest.mark.parametrize("name", ["kto", "reward"])
def test_scores_that_one_example_does_not_have_are_refused(
    palate: Palate, runs: Callable[[str], Path], name: str
) -> None:
    done = palate("data", "trace", "train:0", "--run", runs(name), "--scores")
    assert done.exit_code == 2
    said = done.output.splitlines()[-1]
    assert said.startswith(f"error: the loss of one example alone cannot be computed for {name}")


def test_text_has_no_example_to_trace(palate: Palate, runs: Callable[[str], Path]) -> None:
    done = palate("data", "trace", "train:0", "--run", runs("pretrain"))
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "learnt from plain text, which has no examples to trace" in done.output


def test_of_stages_the_last_is_traced(palate: Palate, runs: Callable[[str], Path]) -> None:
    folder = runs("stages")
    done = palate("data", "trace", "train:0", "--run", folder, "--scores")
    assert done.exit_code == 0, done.output
    assert f"in {folder / '2-dpo' / 'snapshot'}" in done.stdout
    assert (
        f"before: {folder / '1-sft' / 'model'}, after: {folder / '2-dpo' / 'model'}" in done.stdout
    )
    assert "(pair)" in done.stdout
    first = palate("data", "trace", "train:0", "--run", folder / "1-sft")
    assert first.exit_code == 0, first.output
    assert "(demonstration)" in first.stdout


# --- chat -------------------------------------------------------------------------------


def test_of_stages_the_last_speaks(palate: Palate, runs: Callable[[str], Path]) -> None:
    folder = runs("stages")
    done = palate("chat", folder, "--max-new-tokens", 2, typed="hello\n")
    assert done.exit_code == 0, done.output
    assert f"loading {folder / '2-dpo' / 'model'}" in done.stderr


def test_stages_that_are_not_finished_name_the_whole_recipe(
    palate: Palate, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    """Continuing the stage by itself would forget what the one before held out."""
    folder = tmp_path / "moved"
    shutil.copytree(runs("stages"), folder)
    shutil.rmtree(folder / "2-dpo" / "model")
    done = palate("chat", folder)
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert f"palate train {folder / 'config.yaml'} resume=auto" in done.output
    shutil.rmtree(folder / "2-dpo")
    assert run_folder(folder) == folder / "1-sft"
    shutil.rmtree(folder / "1-sft")
    done = palate("chat", folder)
    assert done.exit_code == 2
    assert f"palate train {folder / 'config.yaml'} resume=auto" in done.output


def test_a_reward_model_does_not_speak(palate: Palate, runs: Callable[[str], Path]) -> None:
    done = palate("chat", runs("reward"), typed="hello\n")
    assert done.exit_code == 2
    assert done.output.splitlines()[-1] == (
        f"error: {runs('reward')} is a reward model: it scores answers, and cannot give any"
    )


def test_a_folder_that_is_no_staged_run_is_itself(
    runs: Callable[[str], Path], tmp_path: Path
) -> None:
    assert run_folder(runs("kto")) == runs("kto")
    assert run_folder(tmp_path) == tmp_path


# --- init -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "method"), [("pair", "dpo"), ("labelled", "kto"), ("text", "pretrain")]
)
def test_init_chooses_by_the_datas_shape(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path, shape: str, method: str
) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "recipe.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[shape]), encoding="utf-8")
    done = palate("init", tiny_model_folder, data, "-o", out)
    assert done.exit_code == 0, done.output
    assert f"method: {method} (" in done.output
    config = load_config(out)
    assert isinstance(config.method, dict)
    assert config.method["name"] == method
    assert config.data.heldout == 0.1, "there are several prompts, or texts"
    assert palate("doctor", out, "train.precision=fp32", "--json").exit_code == 0


def test_init_takes_a_folder_of_documents(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path
) -> None:
    folder, out = tmp_path / "docs", tmp_path / "recipe.yaml"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.md").write_text(f"# Document {i}\n", encoding="utf-8")
    done = palate("init", tiny_model_folder, folder, "-o", out)
    assert done.exit_code == 0, done.output
    assert build_config(load_config(out).model_dump(mode="json")).method == {"name": "pretrain"}
    (folder / "1.md").unlink()
    (folder / "2.md").unlink()
    again = palate("init", tiny_model_folder, folder, "-o", tmp_path / "other.yaml")
    assert again.exit_code == 0, again.output
    assert load_config(tmp_path / "other.yaml").data.heldout == 0


def test_a_pass_for_the_steps_statistic_costs_time(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path
) -> None:
    """Full training takes one forward pass and twice that backward: one more makes 4/3."""
    recipe = written(tmp_path, tiny_model_folder, "sum")
    settings = ["adapter=full", "train.precision=fp32", "--json"]
    seconds = {}
    for method in ("dpo", "bco"):
        done = palate("doctor", recipe, f"method={method}", *settings)
        found = json.loads(done.stdout)
        seconds[method] = found["recipe"]["training_seconds"] * found["recipe"]["speed"]
    assert seconds["bco"] == pytest.approx(4 / 3 * seconds["dpo"], rel=0.02)


# --- train ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "measured", "speaks"),
    [
        ("tr-dpo", "pairs ranked right (of 2)", True),
        ("kto", "answers judged as by their thumbs (of 2)", True),
        ("reward", "pairs ranked right (of 2)", False),
        ("pretrain", None, True),
    ],
)
def test_the_summary_says_what_was_measured_and_what_can_be_done(
    palate: Palate, runs: Callable[[str], Path], name: str, measured: str | None, speaks: bool
) -> None:
    """Of a run that is complete: it is shown and not trained again."""
    folder = runs(name)
    done = palate("train", folder / "config.yaml", "resume=auto")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert ("Held-out" in said) == (measured is not None)
    if measured is not None:
        assert measured in said
    assert (f"palate chat {folder}" in done.output) == speaks


def test_of_stages_the_last_is_shown(palate: Palate, runs: Callable[[str], Path]) -> None:
    folder = runs("stages")
    done = palate("train", folder / "config.yaml", "resume=auto")
    assert done.exit_code == 0, done.output
    assert f"model   {folder / '2-dpo' / 'model'}" in done.output
    assert f"report  {folder / '2-dpo' / 'report.html'}" in done.output
    found = json.loads(palate("train", folder / "config.yaml", "resume=auto", "--json").stdout)
    assert found == json.loads((folder / "2-dpo" / "results.json").read_text(encoding="utf-8"))
