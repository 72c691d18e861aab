"""A run's folder: one trainer, the same recipe, the same decisions, nothing written over."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from palate.config import ConfigError, RunConfig, load_config
from palate.train.folder import (
    Plan,
    open_folder,
    read_plan,
    write_environment,
    write_plan,
)

PLAN = Plan("tree", "proved", "fp32", "cpu", 1, 4096, "0" * 64)


def config(out: Path, **settings: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"name": "desk", "out": str(out), "model": "m", "data": "d.jsonl", **settings}
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def begin(out: Path, **settings: Any) -> Path:
    """A run that came as far as its data."""
    with open_folder(config(out, **settings)) as (folder, continues):
        assert not continues
        (folder / "snapshot").mkdir()
        (folder / "samples.jsonl").write_text("an answer")
    return folder


def test_a_new_folder_holds_the_resolved_recipe(tmp_path: Path) -> None:
    folder = begin(tmp_path / "deep" / "runs")
    assert folder == tmp_path / "deep" / "runs" / "desk"
    assert load_config(folder / "config.yaml") == config(tmp_path / "deep" / "runs")


def test_auto_without_an_earlier_run_begins_one(tmp_path: Path) -> None:
    with open_folder(config(tmp_path, resume="auto")) as (_, continues):
        assert not continues


def test_auto_continues(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    with open_folder(config(tmp_path, resume="auto")) as (again, continues):
        assert continues
        assert again == folder
        assert (again / "snapshot").is_dir()
    assert load_config(folder / "config.yaml").resume == "never"


def test_an_earlier_run_is_moved_aside(tmp_path: Path) -> None:
    for number in range(3):
        folder = begin(tmp_path, seed=number)
        assert names(folder) == {".lock", "config.yaml", "snapshot", "samples.jsonl"}
    assert names(tmp_path) == {"desk", "desk.1", "desk.2"}
    for name, seed in (("desk.1", 0), ("desk.2", 1), ("desk", 2)):
        assert load_config(tmp_path / name / "config.yaml").seed == seed
        assert (tmp_path / name / "samples.jsonl").read_text() == "an answer"


def test_an_attempt_that_never_had_data_is_cleared_away(tmp_path: Path) -> None:
    """Else every mistyped path would leave a folder behind."""
    with open_folder(config(tmp_path)) as (folder, _):
        write_plan(folder, PLAN)
        (folder / "rejects.jsonl").write_text("{}")
    with open_folder(config(tmp_path)) as (folder, _):
        assert names(folder) == {".lock", "config.yaml"}
    assert names(tmp_path) == {"desk"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"method": {"name": "dpo", "beta": 0.2}}, "method.beta"),
        ({"data": {"path": "d.jsonl", "max_length": 99}}, "data.max_length"),
        ({"train": {"batch_size": 3}}, "train.batch_size"),
        ({"optim": {"lr": 0.1}, "adapter": {"rank": 2}}, "adapter.rank, optim.lr"),
    ],
)
def test_another_recipe_is_refused_by_its_keys(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    folder = begin(tmp_path)
    before = (folder / "config.yaml").read_text()
    with (
        pytest.raises(ConfigError, match=rf"other settings \({named}\).*name=NAME") as said,
        open_folder(config(tmp_path, resume="auto", **settings)),
    ):
        pass
    assert "\n" not in str(said.value)
    assert (folder / "config.yaml").read_text() == before
    assert (folder / "samples.jsonl").exists()


def test_a_parameter_that_was_taken_out_is_a_change_too(tmp_path: Path) -> None:
    begin(tmp_path, method={"name": "dpo", "beta": 0.2})
    with (
        pytest.raises(ConfigError, match=r"\(method.beta\)"),
        open_folder(config(tmp_path, resume="auto", method="dpo")),
    ):
        pass


def test_what_may_change_is_kept_in_the_recipe(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    wanted = config(tmp_path, resume="auto", train={"epochs": 3.0, "save_every": 7})
    with open_folder(wanted) as (_, continues):
        assert continues
    kept = load_config(folder / "config.yaml")
    assert (kept.train.epochs, kept.train.save_every, kept.resume) == (3.0, 7, "never")
    assert (folder / "samples.jsonl").exists()


def test_answers_drawn_under_other_settings_are_forgotten(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    with open_folder(config(tmp_path, resume="auto", evaluate={"temperature": 0.1})):
        assert not (folder / "samples.jsonl").exists()
    assert load_config(folder / "config.yaml").evaluate.temperature == 0.1


def test_of_a_complete_run_nothing_may_change(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    (folder / "results.json").write_text("{}")
    with open_folder(config(tmp_path, resume="auto")) as (_, continues):
        assert continues
    with (
        pytest.raises(ConfigError, match=r"is complete.*train.epochs"),
        open_folder(config(tmp_path, resume="auto", train={"epochs": 3.0})),
    ):
        pass
    assert (folder / "samples.jsonl").exists()


def test_the_folder_may_be_called_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    monkeypatch.chdir(tmp_path)
    with open_folder(config(Path(), resume="auto")) as (_, continues):
        assert continues


def _hold(out: Path, ready: Event, done: Event) -> None:
    with open_folder(config(out)) as (folder, _):
        (folder / "snapshot").mkdir()
        ready.set()
        done.wait(60)


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_second_process_is_refused(tmp_path: Path, resume: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with (
            pytest.raises(ConfigError, match="another process is training") as said,
            open_folder(config(tmp_path, resume=resume)),
        ):
            pass
        assert "\n" not in str(said.value)
        assert names(tmp_path) == {"desk"}
        assert (tmp_path / "desk" / "snapshot").is_dir()
    finally:
        done.set()
        other.join(60)
    assert other.exitcode == 0
    with open_folder(config(tmp_path, resume="auto")) as (_, continues):
        assert continues


def test_the_lock_goes_when_a_run_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_folder(config(tmp_path)):
        raise KeyError
    with open_folder(config(tmp_path)):
        pass


@pytest.mark.parametrize("kind", ["below a file", "is a file", "proc"])
def test_a_folder_that_cannot_be_is_one_line_with_the_cure(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    if kind == "is a file":
        (tmp_path / "desk").write_text("")
    out = {"below a file": file, "is a file": tmp_path, "proc": Path("/proc/none")}[kind]
    with (
        pytest.raises(ConfigError, match=r"cannot be written \(.+\): choose another") as said,
        open_folder(config(out)),
    ):
        pass
    assert "\n" not in str(said.value)


def test_the_plan_comes_back(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    write_plan(tmp_path, PLAN)
    assert read_plan(tmp_path) == PLAN


@pytest.mark.parametrize("text", ["{", "[]", '{"layout": "tree"}', '{"other": 1}'])
def test_a_plan_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match=r"plan.json cannot be read.*name=NAME"):
        read_plan(tmp_path)


def test_the_environment(tmp_path: Path) -> None:
    import json
    import platform

    write_environment(tmp_path, {"lr": 1e-3})
    body = json.loads((tmp_path / "environment.json").read_text())
    assert set(body) == {"versions", "machine", "git", "lr"}
    assert {"torch", "transformers", "peft"} <= set(body["versions"])
    assert body["machine"]["python"] == platform.python_version()


def test_a_run_that_is_moved_aside_is_named(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": "m", "data": "d", "out": str(tmp_path)})
    said: list[str] = []
    with open_folder(config, said.append) as (folder, _):
        (folder / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    assert said == []
    with open_folder(config, said.append):
        pass
    moved = folder.with_name("run.1")
    assert (moved / "metrics.jsonl").is_file()
    assert said == [f"the earlier run {folder} is {moved} now; resume=auto would continue it"]
