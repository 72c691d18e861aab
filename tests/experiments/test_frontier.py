"""The frontier experiment in a small world: its shape, and that a stopped one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.experiments import frontier
from palate.experiments.frontier import REDUCED, Ground, Setting, run_all, settings


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground.of(REDUCED)


CHOSEN = [
    *(Setting("dpo", {"beta": beta}) for beta in (2, 0.5, 0.1)),
    *(Setting("best-of-n", {"n": n}, "true") for n in (2, 16)),
    Setting("best-of-n", {"n": 16}, "learned"),
    Setting("rloo", {"beta": 0.5}, "true"),
]


@pytest.fixture(scope="module")
def rows(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    path = tmp_path_factory.mktemp("frontier") / "runs.jsonl"
    return {row["setting"]: row for row in run_all(ground, path, CHOSEN, [0])}


def test_nothing_is_above_the_frontier(rows: dict[str, dict[str, Any]]) -> None:
    assert len(rows) == len(CHOSEN)
    assert all(row["above"] <= 1e-9 for row in rows.values())
    assert all(0.5 < row["share"] <= 1 for row in rows.values()), rows


def test_a_weaker_pull_goes_farther(rows: dict[str, dict[str, Any]]) -> None:
    """KL grows in 1/β and in n."""
    far = [rows[f"dpo beta={beta:g}"]["kl"] for beta in (2, 0.5, 0.1)]
    assert far == sorted(far)
    assert far[0] < 0.5 * far[2]
    assert rows["best-of-n n=2 true reward"]["kl"] < rows["best-of-n n=16 true reward"]["kl"]


def test_the_best_of_many_by_the_truth_is_next_to_the_frontier(
    rows: dict[str, dict[str, Any]],
) -> None:
    """KL of best-of-n is at most log n − (n − 1)/n (Beirami et al. 2024)."""
    by_truth, learned = (rows[f"best-of-n n=16 {who} reward"] for who in ("true", "learned"))
    assert by_truth["share"] > 0.95
    assert by_truth["kl"] <= 1.835088  # log 16 − 15/16
    assert learned["reward"] < by_truth["reward"]


def test_dpo_makes_nine_tenths_of_the_oracles_gain(rows: dict[str, dict[str, Any]]) -> None:
    assert max(rows[f"dpo beta={beta:g}"]["share"] for beta in (2, 0.5, 0.1)) >= 0.9


def test_a_stopped_one_goes_on_where_it_was(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, two = tmp_path / "runs.jsonl", CHOSEN[3:5]
    done: list[str] = []
    real = frontier.perform

    def until(most: int) -> Any:
        def perform(on: Ground, setting: Setting, seed: int, scores: Any) -> dict[str, Any]:
            if len(done) == most:
                raise KeyboardInterrupt
            done.append(f"{setting.key} {seed}")
            return real(on, setting, seed, scores)

        return perform

    monkeypatch.setattr(frontier, "perform", until(3))
    with pytest.raises(KeyboardInterrupt):
        run_all(ground, path, two, [0, 1])
    with path.open("a") as file:
        file.write('{"setting": "cut sh')
    monkeypatch.setattr(frontier, "perform", until(99))
    found = run_all(ground, path, two, [0, 1])
    names = [f"best-of-n n={n} true reward {seed}" for seed in (0, 1) for n in (2, 16)]
    assert done == names
    assert [f"{row['setting']} {row['seed']}" for row in found] == names
    with pytest.raises(ValueError, match=r"runs\.jsonl"):
        run_all(ground, path, two[:1], [0])


def test_every_setting_has_a_name_of_its_own() -> None:
    found = settings()
    assert len({one.key for one in found}) == len(found)
    assert {"sft", "dpo", "ipo", "kto", "orpo", "simpo", "robust-dpo", "spin", "sppo"} <= {
        one.method for one in found
    }
