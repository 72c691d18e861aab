"""lm-eval is asked by its own interface; the package itself is not needed here."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palate.config import ConfigError
from palate.evaluate.measure.candidate import Candidate
from palate.evaluate.measure.tasks import beside, check_tasks, task_values


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What a stand-in for lm-eval was asked; it knows one task."""
    calls: list[dict[str, Any]] = []

    def simple_evaluate(**given: Any) -> dict[str, Any]:
        calls.append(given)
        (task,) = given["tasks"]
        if task != "sums":
            raise KeyError(f"{task} is no task")
        values = {"alias": "sums", "acc,none": 0.75, "acc_stderr,none": 0.1, "sample_len": 16}
        return {"results": {"sums": values}}

    module = ModuleType("lm_eval")
    module.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    module.__spec__ = importlib.machinery.ModuleSpec("lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval", module)
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    return calls


def test_metrics_by_their_names_and_once(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    model = Candidate("m", str(tmp_path))
    check_tasks(["sums"])
    for _ in range(2):
        assert task_values(model, ["sums"], 8, "cpu") == {"sums": {"acc": 0.75, "acc_stderr": 0.1}}
    (call,) = asked
    assert call["model"] == "hf"
    assert call["model_args"]["pretrained"] == str(tmp_path)
    assert (call["limit"], call["device"]) == (8, "cpu")


def test_a_task_that_it_does_not_know(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot measure the task 'nosuch': .*is no task"):
        task_values(Candidate("m", str(tmp_path)), ["nosuch"], None, "cpu")
    assert len(asked) == 1


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    check_tasks([])
    with pytest.raises(ConfigError, match="lm_eval"):
        check_tasks(["sums"])


def test_two_models_beside_each_other() -> None:
    found = beside({"sums": {"acc": 0.75, "new": 1.0}}, {"sums": {"acc": 0.5}})
    assert found == {"sums": {"acc": {"model": 0.75, "base": 0.5}}}
    assert beside({}, {}) is None
