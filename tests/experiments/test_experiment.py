"""What an experiment writes; that each one's cases have names of their own and are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.experiments.experiment import Experiment, chosen, perform
from palate.experiments.figures import Measure
from palate.experiments.ground import REDUCED
from palate.experiments.listed import LISTED, find
from palate.experiments.runs import Case

KL = Measure("kl", "KL, nats")
CASES = [
    Case("dpo", "dpo a", lambda on, seed: [{"kl": 1.0 + seed}]),
    Case("ppo, true reward", "ppo a", lambda on, seed: [{"kl": 2.0}]),
]
ONE = Experiment(name="frontier", cases=lambda scale: CASES, x=KL, ys=[KL], told=[KL])


@pytest.mark.parametrize("name", LISTED)
def test_each_has_cases_with_names_of_their_own(name: str) -> None:
    what = find(name)
    for reduced in (True, False):
        keys = [case.key for case in what.cases(what.scale(reduced=reduced))]
        assert len(set(keys)) == len(keys) > 0


def test_the_files(tmp_path: Path) -> None:
    outcome = perform(ONE, tmp_path, range(2), reduced=True)
    figures = json.loads(outcome.figures.read_text())
    assert figures["asks"] == LISTED["frontier"]
    assert figures["scale"]["symbols"] == REDUCED.symbols
    assert [one["kl"] for one in figures["points"]] == [[1.5, 0.707107], [2, 0]]
    assert figures["table"] == [["", "KL, nats"], ["dpo a", "1.50 ± 0.71"], ["ppo a", "2.00"]]
    assert outcome.drawing.read_text().startswith("<svg")
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 1 + 4


def test_some_lines() -> None:
    assert [case.key for case in chosen(CASES, ["ppo"])] == ["ppo a"]
    assert [case.key for case in chosen(CASES, ["dpo", "ppo, true reward"])] == ["dpo a", "ppo a"]
    with pytest.raises(ValueError, match="nothing here is called dop; there are dpo, ppo"):
        chosen(CASES, ["dop", "dpo"])
