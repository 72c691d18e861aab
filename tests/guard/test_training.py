"""From a store's labels to a calibrated guard, and what must be said before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.guard.worlds import answers, prompts, settings, write

from palate.config import ConfigError, RunConfig, load_config
from palate.guard.check import Guard
from palate.guard.settings import FILE, Goal, default_recipe
from palate.guard.training import Trained, train_guard
from palate.losses.registry import find
from palate.records import Message
from palate.store.database import Store
from palate.store.importing import import_paths
from palate.store.snapshot import read_snapshot

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "classifier.yaml"
pytestmark = pytest.mark.usefixtures("cache")


def recipe(home: Path, base: Path, rows: list[dict], *more: str) -> RunConfig:
    data = write(home / "labels.jsonl", rows)
    return default_recipe(str(data), [*settings(base, home / "runs"), *more])


def test_it_learns_what_shouts(trained: Trained) -> None:
    """Chance is 0.5; with an eighth of the unsafe half wrong, perfect rules give about 0.93."""
    figures = trained.figures
    assert figures.rows == len(read_snapshot(trained.folder / "snapshot").heldout)
    assert figures.unsafe + figures.safe == figures.rows
    assert figures.auc > 0.75
    assert figures.auc_interval[0] > 0.5
    assert figures.calibrated.brier < figures.brier_of_share
    assert figures.recall.count == round(figures.recall.share * figures.unsafe)
    loud, calm = (
        trained.guard.check_prompts([[Message("user", f"tea {n} {end}")] for n in (7, 9)])
        for end in ("!!!!", "....")
    )
    assert min(v.p_unsafe for v in loud) > 0.5 > max(v.p_unsafe for v in calm)


def test_what_is_written_says_the_same(trained: Trained) -> None:
    raw = json.loads((trained.folder / FILE).read_text(encoding="utf-8"))
    assert raw == json.loads(json.dumps(trained.results))
    assert raw["goal"] == {"recall": 0.9, "fpr": None}
    assert raw["kinds"] == {"prompt": trained.figures.rows}
    assert raw["latency"]["calls"] == trained.figures.rows
    assert 0 < raw["latency"]["median"] <= raw["latency"]["p95"]


def test_the_default_recipe_is_the_one_that_is_shipped() -> None:
    shipped, ours = load_config(RECIPE), default_recipe("my-labels.jsonl")
    other = {"name", "method"}
    assert ours.model_dump(exclude=other) == shipped.model_dump(exclude=other)
    assert find(ours.method) == find(shipped.method)


def test_a_complete_run_is_calibrated_again_for_another_goal(
    trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "guard")
    config = load_config(
        trained.folder / "config.yaml", [f"out={tmp_path}", "name=guard", "resume=auto"]
    )
    stamp = (tmp_path / "guard" / "model" / "model.safetensors").stat().st_mtime_ns
    again = train_guard(config, Goal(recall=None, fpr=0.0))
    assert (tmp_path / "guard" / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    assert again.guard.saved.calibration == trained.guard.saved.calibration
    assert again.guard.saved.threshold > trained.guard.saved.threshold
    assert again.figures.auc == trained.figures.auc


def test_answers_in_a_store(tmp_path: Path, base: Path) -> None:
    """Thumbs of a store: down is unsafe."""
    place = str(tmp_path / "palate.db")
    with Store.open(place) as store:
        import_paths(store, [str(write(tmp_path / "log.jsonl", answers()))])
    trained = train_guard(default_recipe(place, settings(base, tmp_path / "runs")))
    assert trained.guard.saved.kinds == {"answer": trained.figures.rows}
    assert trained.figures.auc > 0.9
    question = [{"role": "user", "content": "say 500"}]
    assert trained.guard.check_answer(question, "well 500 !!!!").unsafe
    assert not trained.guard.check_answer(question, "well 500 ....").unsafe
    with pytest.raises(ValueError, match="made from answers and nobody has measured it on prompts"):
        trained.guard.check_prompt(question)


def one_class(label: str) -> list[dict]:
    return [{**row, "label": label} for row in prompts(20)]


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (one_class("safe"), (), "no unsafe prompt is held out"),
        (one_class("unsafe"), (), "no safe prompt is held out"),
        ([*one_class("safe"), *prompts(1, 101)], (), "unsafe prompt is held out"),
        (prompts(20), ("data.heldout=0",), "set data.heldout above 0"),
        (prompts(20), ("method=kto",), "a guard needs method=classifier"),
        (prompts(20), ("method=reward",), "a guard needs method=classifier"),
        (prompts(20), ("stages=[classifier]",), "one stage"),
    ],
)
def test_what_gives_no_guard_is_said_before_training(
    tmp_path: Path, base: Path, rows: list[dict], more: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        train_guard(recipe(tmp_path, base, rows, *more))
    assert not (tmp_path / "runs").exists()


def test_training_rows_of_one_class_are_one_line(tmp_path: Path, base: Path) -> None:
    rows = [*({**row, "part": "a"} for row in one_class("safe"))]
    rows += [{**row, "part": "b"} for row in prompts(20, 300)]
    more = ("data.split_by=tag:part", "data.heldout_values=[b]")
    with pytest.raises(ValueError, match="all 20 rows to train on have a thumb up"):
        train_guard(recipe(tmp_path, base, rows, *more))


@pytest.mark.parametrize(
    ("recall", "fpr", "said"),
    [
        (0.9, 0.1, "give one of them"),
        (None, None, "give one of them"),
        (0.0, None, r"recall must lie in \(0, 1\]"),
        (1.1, None, r"recall must lie in \(0, 1\]"),
        (None, 1.0, r"FPR must lie in \[0, 1\)"),
    ],
)
def test_goals_that_are_none(recall: float | None, fpr: float | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Goal(recall, fpr)


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'data\.heldoot'"):
        default_recipe("x.jsonl", ["data.heldoot=0.2"])


def test_it_loads_what_it_saved(trained: Trained) -> None:
    assert Guard.load(trained.folder).saved == trained.guard.saved
