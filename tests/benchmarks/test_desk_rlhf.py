"""The arithmetic of the table of pipelines in docs/experiments/rlhf.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.desk_rlhf import DESK, PIPELINES, RATE, ROOT, length, names, read, table

DPO, PPO, _ = PIPELINES


def end(out: Path, name: str, minutes: float, peak: int, answers: int | None = None) -> Path:
    """What a stage leaves that came to its end."""
    folder = out / name
    folder.mkdir(exist_ok=True)
    results: dict[str, Any] = {"training": {"seconds": 60 * minutes}, "rollouts": None}
    if answers is not None:
        results["rollouts"] = {"answers": answers}
    (folder / "results.json").write_text(json.dumps(results))
    (out / f"{name}.json").write_text(json.dumps({"ended": True, "peak": peak * 2**30}))
    return folder


def went(folder: Path, path: list[tuple[int, float, float]]) -> None:
    """Where its checkpoints stood: step, KL, and both shares of rules kept."""
    told = {
        str(step): {"kl": kl, "kept": kept, "score": kept, "words": 30.0} for step, kl, kept in path
    }
    (folder / "path.json").write_text(json.dumps(told))


def test_a_pipeline_is_the_sum_of_its_stages(tmp_path: Path) -> None:
    """At 4 nats, between 2 (half of the rules) and 6 (all of them): three quarters."""
    end(tmp_path, "reward-0", 10, 3)
    assert read(PPO, RATE, 0, tmp_path) is None
    went(end(tmp_path, "ppo-0.0002-0", 20, 4, 768), [(0, 0, 0.1), (4, 2, 0.5), (16, 6, 1.0)])
    cell = read(PPO, RATE, 0, tmp_path)
    assert cell is not None
    assert (cell.minutes, cell.peak, cell.samples, cell.wrong) == (30, 4, 768, False)
    assert cell.at(4, "kept") == pytest.approx(0.75)
    assert cell.last["kept"] == 1


def test_what_has_gone_wrong(tmp_path: Path) -> None:
    """One that stopped, and one that ends below where it began, in the same line of two."""
    (tmp_path / "dpo-0.005-0.json").write_text(
        json.dumps({"ended": False, "peak": 2**31, "said": "the loss is nan"})
    )
    went(end(tmp_path, "dpo-0.005-1", 20, 4), [(0, 0, 0.3), (88, 50, 0.2)])
    went(end(tmp_path, "dpo-0.0002-0", 20, 4), [(0, 0, 0.3), (88, 5, 0.8)])
    _, _, default, high = table([DPO], tmp_path, 4)
    assert "| dpo | 0.0002 | 1 |" in default
    assert default.endswith("| 0 of 1 |")
    assert high.endswith("| 2 of 2 |")
    assert "| 70 |" in default  # 30 + 4/5 of 50


def test_a_reward_model_serves_all_rates_of_its_seed() -> None:
    assert names(PPO, 1e-3, 2) == ["reward-2", "ppo-0.001-2"]
    assert names(DPO, 1e-3, 2) == ["dpo-0.001-2"]


def test_stages_keep_the_checkpoints_that_are_measured() -> None:
    """Each is a multiple of the first, which is how often a run saves, and the last is its end."""
    for one in PIPELINES:
        steps = one.stages[-1].steps
        assert [step % steps[0] for step in steps] == [0] * 4
        for stage in one.stages:
            assert (ROOT / DESK / stage.recipe).is_file()
            assert length(DESK / stage.recipe) > 10
