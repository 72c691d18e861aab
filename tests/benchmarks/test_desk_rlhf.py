"""The arithmetic of the table of pipelines on a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.desk_rlhf import DESK, PIPELINES, RATE, ROOT, length, names, paths, read, table

DPO, PPO, _ = PIPELINES


def end(out: Path, name: str, minutes: float, peak: int, answers: int | None = None) -> Path:
    """What a stage leaves that came to its end."""
    folder = out / name
    folder.mkdir(exist_ok=True)
    results: dict[str, Any] = {"rollouts": None}
    if answers is not None:
        results["rollouts"] = {"answers": answers}
    (folder / "results.json").write_text(json.dumps(results))
    (out / f"{name}.json").write_text(
        json.dumps({"ended": True, "peak": peak * 2**30, "seconds": 60 * minutes})
    )
    return folder


def went(folder: Path, path: list[tuple[int, float, float]]) -> None:
    """Where its checkpoints stood: step, KL, and both shares of rules kept."""
    told = {
        str(step): {"kl": kl, "kept": kept, "score": kept, "words": 30.0} for step, kl, kept in path
    }
    (folder / "path.json").write_text(json.dumps(told))


def test_a_pipeline_is_the_sum_of_its_stages(tmp_path: Path) -> None:
    """At 4 nats, half of the way from √1 to √9: between half of the answers and all of them.

    Nothing is said of a run whose checkpoints have not all been measured.
    """
    end(tmp_path, "reward-0", 10, 3)
    assert read(PPO, RATE, 0, tmp_path) is None
    folder = end(tmp_path, "ppo-0.0002-0", 20, 4, 768)
    some = [(0, 0, 0.1), (8, 0.5, 0.2), (16, 1, 0.5), (24, 9, 1.0)]
    went(folder, some)
    assert read(PPO, RATE, 0, tmp_path) is None
    went(folder, [*some, (32, 16, 1.0)])
    cell = read(PPO, RATE, 0, tmp_path)
    assert cell is not None
    assert (cell.minutes, cell.peak, cell.samples, cell.wrong) == (30, 4, 768, False)
    assert cell.at(4, "kept") == pytest.approx(0.75)
    assert cell.last["kept"] == 1


def path_of(
    first: tuple[float, float], then: tuple[float, float]
) -> list[tuple[int, float, float]]:
    """The untrained model, and all checkpoints of DPO at one place."""
    return [(0, first[1], first[0]), *((step, then[1], then[0]) for step in DPO.stages[-1].steps)]


def test_what_has_gone_wrong(tmp_path: Path) -> None:
    """One that stopped, and one that ends below where it began, in the same line of two."""
    (tmp_path / "dpo-0.005-0.json").write_text(
        json.dumps({"ended": False, "peak": 2**31, "seconds": 1.0, "said": "the loss is nan"})
    )
    went(end(tmp_path, "dpo-0.005-1", 20, 4), path_of((0.3, 0), (0.2, 50)))
    went(end(tmp_path, "dpo-0.0002-0", 20, 4), path_of((0.3, 0), (0.8, 16)))
    _, _, default, high = table([DPO], tmp_path, 4)
    assert "| dpo | 0.0002 | 1 |" in default
    assert default.endswith("| 0 of 1 |")
    assert high.endswith("| 2 of 2 |")
    assert "| 55 |" in default  # half of the way from 30 to 80: √4 of √16
    assert paths([DPO], tmp_path)[2] == (
        "| dpo-0.0002-0 | 0.0: 30%, 16.0: 80%, 16.0: 80%, 16.0: 80%, 16.0: 80% |"
    )


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
