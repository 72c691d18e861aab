"""The arithmetic of the table of pipelines on a language model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from benchmarks import desk_rlhf
from benchmarks.desk.pipelines import DESK, PIPELINES, RATE, ROOT, names
from benchmarks.desk.table import kept, length, memory, paths, read, table
from benchmarks.desk_rlhf import pairs_apart, settings
from benchmarks.trained import Trained

from palate.config import RunConfig, load_config
from palate.curate.prepare import prepare
from palate.records import Example
from palate.tokens.sampler import Sampler

DPO, PPO, _ = PIPELINES
FOLDERS = [Path("out/first"), Path("out/second")]


def end(out: Path, name: str, minutes: float, peak: int, answers: int | None = None) -> Path:
    """What a stage leaves that came to its end; its peak in GiB."""
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
    """At 4 nats, half of the way from √2.25 to √6.25: between half of the answers and all of them.

    Nothing is said of a run whose checkpoints have not all been measured.
    """
    end(tmp_path, "reward-0", 10, 3)
    assert read(PPO, RATE, 0, tmp_path) is None
    folder = end(tmp_path, "ppo-0.0002-0", 20, 4, 768)
    some = [(0, 0, 0.1), (8, 0.5, 0.2), (16, 2.25, 0.5), (24, 6.25, 1.0)]
    went(folder, some)
    assert read(PPO, RATE, 0, tmp_path) is None
    went(folder, [*some, (32, 16, 1.0)])
    cell = read(PPO, RATE, 0, tmp_path)
    assert cell is not None
    assert (cell.minutes, cell.samples, cell.wrong) == (30, 768, False)
    assert cell.at(4, "kept") == pytest.approx(0.75)
    assert cell.last["kept"] == 1
    assert math.isnan(cell.at(17, "kept")), "it never comes so far"


def test_a_path_is_read_where_it_first_passes(tmp_path: Path) -> None:
    """Beyond 9 nats it comes back to 4: more training, which is not what is compared.

    And from the untrained model to 9 nats nobody knows how it went.
    """
    out, back = (end(tmp_path, f"dpo-0.0002-{seed}", 20, 4) for seed in (0, 1))
    kls = [1, 2.25, 6.25, 9, 9, 9, 9, 4]
    went(
        out,
        [(0, 0, 0.1), *zip(DPO.stages[0].steps, kls, [0.4, 0.5, 1, 1, 1, 1, 1, 0], strict=True)],
    )
    went(back, [(0, 0, 0.1), *((step, 9.0, 0.9) for step in DPO.stages[0].steps)])
    first, leap = (read(DPO, RATE, seed, tmp_path) for seed in (0, 1))
    assert first is not None
    assert leap is not None
    assert first.at(4, "kept") == pytest.approx(0.75)
    assert math.isnan(leap.at(4, "kept"))
    assert "| 75 (75, –) |" in table([DPO], tmp_path, 4)[2]


def test_what_has_gone_wrong(tmp_path: Path) -> None:
    """One that stopped, and one that ends below where it began, in the same line of two."""
    (tmp_path / "dpo-0.005-0.json").write_text(
        json.dumps({"ended": False, "peak": 2**31, "seconds": 1.0, "said": "the loss is nan"})
    )
    steps = DPO.stages[0].steps
    worse = end(tmp_path, "dpo-0.005-1", 20, 4)
    went(worse, [(0, 0, 0.3), *((step, 50, 0.2) for step in steps)])
    default = end(tmp_path, "dpo-0.0002-0", 20, 4)
    went(default, [(0, 0, 0.1), (steps[0], 2.25, 0.3), *((at, 6.25, 0.7) for at in steps[1:])])
    _, _, default, high = table([DPO], tmp_path, 4)
    assert "| dpo | 0.0002 | 1 |" in default
    assert default.endswith("| 0 of 1 |")
    assert high.endswith("| 2 of 2 |")
    assert "| 50 |" in default  # half of the way from √2.25 to √6.25
    went_to = ", ".join(["0.0: 10%", "2.2: 30%", *["6.2: 70%"] * 7])
    assert paths([DPO], tmp_path)[2] == f"| dpo-0.0002-0 | {went_to} |"


def test_what_is_kept_makes_the_same_table(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    (out / "memory").mkdir(parents=True)
    for place in (out, out / "memory"):
        end(place, "reward-0", 10, 3)
        went(end(place, "ppo-0.0002-0", 20, 4, 768), [(at, at, 0.5) for at in (0, 8, 16, 24, 32)])
    kept(out, other)
    assert table([PPO], other, 9) == table([PPO], out, 9)
    assert "| 768 | 30 | 4.0 | 50 |" in table([PPO], other, 9)[2]
    assert not (other / "reward-0").exists()


def test_what_the_docs_show_is_what_was_kept() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    figures = ROOT / "docs" / "desk"
    for line in [*table(PIPELINES, figures, 2), *paths(PIPELINES, figures)]:
        assert line in page


def test_memory_is_that_of_the_largest_stage(tmp_path: Path) -> None:
    assert math.isnan(memory(PPO, tmp_path))
    (tmp_path / "memory").mkdir()
    end(tmp_path / "memory", "reward-0", 1, 3)
    assert math.isnan(memory(PPO, tmp_path))
    end(tmp_path / "memory", "ppo-0.0002-0", 1, 2)
    assert memory(PPO, tmp_path) == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_sees_as_many_answers_and_no_prompt_that_is_held_out(seed: int) -> None:
    """To one in eighty, counted by the recipes' own split and batches."""
    dpo, reward, ppo = (
        load_config(ROOT / DESK / stage.recipe, settings(one, stage, FOLDERS, RATE, seed))
        for one, stage in ((DPO, DPO.stages[0]), (PPO, PPO.stages[0]), (PPO, PPO.stages[1]))
    )
    pairs, same = (prepare(config.data, seed).train for config in (dpo, reward))
    assert pairs == same
    rollout = ppo.rollout
    assert rollout is not None
    assert ppo.train.max_steps is not None
    own = rollout.prompts * rollout.answers * ppo.train.max_steps
    assert own == 2 * 768
    assert 2 * seen(dpo, pairs) == pytest.approx(2 * seen(reward, pairs) + own, rel=1 / 80)
    asked = {one.prompt_key for one in [*pairs, *prepare(ppo.data, seed, shape="prompt").train]}
    apart = {one.prompt_key for one in pairs_apart(seed)}
    assert len(apart) > 40
    assert not asked & apart


def seen(config: RunConfig, pairs: list[Example]) -> int:
    """The pairs of a run's batches."""
    train = config.train
    sampler = Sampler(len(pairs), train.batch_size, config.seed)
    steps = sampler.total_steps(train.epochs, train.max_steps)
    return sum(len(sampler.batch(step)) for step in range(steps))


def test_a_reward_model_serves_all_rates_of_its_seed() -> None:
    assert names(PPO, 1e-3, 2) == ["reward-2", "ppo-0.001-2"]
    assert names(DPO, 1e-3, 2) == ["dpo-0.001-2"]


def test_stages_keep_the_checkpoints_that_are_measured() -> None:
    """Each is a multiple of the first, which is how often a run saves, and the last is its end."""
    for one in PIPELINES:
        steps = one.stages[-1].steps
        assert not any(step % steps[0] for step in steps)
        for stage in one.stages:
            assert (ROOT / DESK / stage.recipe).is_file()
            assert length(DESK / stage.recipe) > 10


def ends_so(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Every stage ends at once, with exit code 2 and these words."""
    done = Trained(code=2, said=said, seconds=60.0, peak=2**30)
    monkeypatch.setattr(desk_rlhf, "palate_train", lambda *words, **environment: done)


def test_a_reward_model_that_diverges_ends_its_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to go on from: the pipeline has gone wrong, and is not tried again."""
    ends_so(monkeypatch, "the loss is nan at step 3: lower optim.lr")
    desk_rlhf.run(PPO, RATE, 0, tmp_path)
    cell = read(PPO, RATE, 0, tmp_path)
    assert cell is not None
    assert (cell.path, cell.wrong) == ({}, True)
    assert table([PPO], tmp_path, 2.0)[2].endswith("| 1 of 1 |")
    monkeypatch.setattr(desk_rlhf, "palate_train", None)
    desk_rlhf.run(PPO, RATE, 0, tmp_path)


def test_what_fails_otherwise_stops_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_so(monkeypatch, "data.path is not there")
    with pytest.raises(SystemExit, match=r"reward-0: data\.path is not there"):
        desk_rlhf.run(PPO, RATE, 0, tmp_path)
    assert read(PPO, RATE, 0, tmp_path) is None
