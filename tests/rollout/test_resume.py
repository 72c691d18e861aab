"""Stopped anywhere and continued, an online run is the run it would have been, bit for bit."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.rollout.tasks import STEPS, Letters, make_task
from tests.train.tasks import Outcome, assert_same, outcome, train

from palate.judge.errors import JudgeStopped
from palate.judge.opinion import Answered, Score
from palate.progress import Bar
from palate.train.loop import run_loop
from palate.train.metrics import read_metrics
from palate.train.task import Interrupted, SourceStopped, Watcher

LORA = {"adapter": {"kind": "lora"}}
# What each has that another has not: passes over one rollout with a value head and an adaptive
# β; a reference that is the last iterate; groups drawn anew; a mixture, and an adapter.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": ({"name": "ppo", "target_kl": 0.5, "horizon": 10}, {"rollout": {"updates": 2}}),
    "spin": ("spin", {"rollout": {"answers": 1}}),
    "dapo": ("dapo", {}),
    "nash-md": ("nash-md", LORA),
    "online-dpo": ("online-dpo", {**LORA, "rollout": {"fresh_reference": 2}}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    @functools.cache
    def run(case: str) -> Outcome:
        method, settings = CASES[case]
        task = make_task(tmp_path_factory.mktemp("whole") / "run", method, **settings)
        train(task)
        return told(task.folder, outcome(task))

    return run


def told(folder: Path, found: Outcome) -> Outcome:
    """With the answers of every rollout, which must come out the same too."""
    files = sorted((folder / "rollouts").iterdir())
    answers = [{"file": f.name, "rows": f.read_text(encoding="utf-8")} for f in files]
    return (*found[:3], [*found[3], *answers])


@pytest.mark.parametrize("step", range(1, STEPS))
@pytest.mark.parametrize("case", CASES)
def test_interrupted_after_any_step(
    tmp_path: Path, whole: Callable[[str], Outcome], case: str, step: int
) -> None:
    method, settings = CASES[case]
    folder = tmp_path / "run"
    assert train(make_task(folder, method, **settings), stop_after=step).steps == step
    task = make_task(folder, method, continues=True, **settings)
    assert train(task, resume=True).steps == STEPS
    assert_same(told(folder, outcome(task)), whole(case))


def test_the_cases_are_interrupted_within_rollouts_and_between_them(
    whole: Callable[[str], Outcome],
) -> None:
    begins = {
        case: [line["step"] for line in whole(case)[3] if line.get("kind") == "rollout"]
        for case in CASES
    }
    assert begins["ppo"] == [1], "nine answers, four a step, twice: six steps"
    assert begins["spin"] == [1, 2, 3, 4, 5, 6]
    assert any(later - one > 1 for one, later in pairwise(begins["dapo"]))


class Dying(Letters):
    """Goes away when it is asked for the `calls`-th time."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        self.calls -= 1
        if self.calls == 0:
            raise JudgeStopped("the server is down: start it again")
        return super().score(answers)


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_a_judge_that_stops_costs_nothing(
    tmp_path: Path, whole: Callable[[str], Outcome], calls: int
) -> None:
    """Call 1 is the measurement before the first step; the run saves and ends with one line."""
    method, settings = CASES["online-dpo"]
    folder = tmp_path / "run"
    task = make_task(folder, method, scorer=Dying(calls), **settings)
    with pytest.raises(SourceStopped, match=r"the judge stopped .*: the server is down: start"):
        train(task)
    if calls > 1:
        lines = read_metrics(folder / "metrics.jsonl")
        done = sum(line["kind"] == "train" for line in lines)
        assert (folder / "checkpoints" / f"step-{done}").is_dir()
    again = make_task(folder, method, continues=True, **settings)
    train(again, resume=True)
    assert_same(told(folder, outcome(again)), whole("online-dpo"))


@pytest.mark.parametrize("advances", [2, 4, 6])
def test_stopped_while_it_samples(
    tmp_path: Path, whole: Callable[[str], Outcome], advances: int
) -> None:
    method, settings = CASES["spin"]
    folder, left = tmp_path / "run", [advances]

    class Stopping:
        def advance(self, count: int = 1, info: str = "") -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Interrupted(None, folder)

    @contextmanager
    def bars(title: str, total: int) -> Iterator[Bar]:
        yield Stopping()

    task = make_task(folder, method, bars=bars, **settings)
    with pytest.raises(Interrupted) as stopped:
        run_loop(task, resume=False, watch=Watcher())
    assert stopped.value.step is not None
    assert (folder / "checkpoints" / f"step-{stopped.value.step}").is_dir()
    again = make_task(folder, method, continues=True, **settings)
    train(again, resume=True)
    assert_same(told(folder, outcome(again)), whole("spin"))


def test_killed_between_two_checkpoints(tmp_path: Path, whole: Callable[[str], Outcome]) -> None:
    """The steps since the last checkpoint, and the rollout they began, are made again."""
    method, settings = CASES["dapo"]
    folder = tmp_path / "run"
    settings = {**settings, "train": {"save_every": 3}}

    def crash(step: int, total: int, means: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_loop(make_task(folder, method, **settings), resume=False, watch=Watcher(on_step=crash))
    task = make_task(folder, method, continues=True, **settings)
    train(task, resume=True)
    assert_same(told(folder, outcome(task)), whole("dapo"))
    assert json.loads((folder / "rollouts" / "step-1.jsonl").read_text().splitlines()[0])["answers"]
