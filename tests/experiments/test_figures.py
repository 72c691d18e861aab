"""Means and spreads by hand, the curve, and the drawing."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.experiments.figures import best_shares, curve, draw, means, table, write
from palate.experiments.frontier import REDUCED, Ground
from palate.experiments.world import Frontier


def row(setting: str, seed: int, kl: float, reward: float, share: float) -> dict[str, Any]:
    line = setting.split(" ", maxsplit=1)[0]
    above = reward - 2 * kl
    return {
        "setting": setting,
        "line": line,
        "seed": seed,
        "kl": kl,
        "reward": reward,
        "share": share,
        "above": above,
        "samples": 0 if line == "dpo" else 640,
        "seconds": 3.0 + seed,
    }


ROWS = [
    row("dpo beta=1", 0, 0.5, 0.8, 0.9),
    row("dpo beta=1", 1, 0.7, 1.0, 0.8),
    row("dpo beta=0.1", 0, 1.5, 1.1, 0.6),
    row("dpo beta=0.1", 1, 1.5, 1.1, 0.7),
    row("ppo beta=1", 0, 0.4, 0.7, 0.95),
]


def test_means_and_spreads_by_hand() -> None:
    found = means(ROWS)
    assert [one.setting for one in found] == ["dpo beta=1", "dpo beta=0.1", "ppo beta=1"]
    first = found[0]
    assert (first.seeds, first.samples, first.seconds) == (2, 0, 3.5)
    assert first.kl == pytest.approx(0.6)
    assert first.kl_spread == pytest.approx(0.2 / math.sqrt(2))
    assert first.share == pytest.approx(0.85)
    assert first.share_spread == pytest.approx(0.1 / math.sqrt(2))
    assert first.above == pytest.approx(-0.2)
    assert (found[2].seeds, found[2].reward_spread) == (1, 0.0)


def test_each_method_where_it_comes_nearest() -> None:
    found = means(ROWS)
    assert {name: one.setting for name, one in best_shares(found).items()} == {
        "dpo": "dpo beta=1",
        "ppo": "ppo beta=1",
    }
    header, body = table(found)
    assert len(header) == len(body[0])
    assert [line[:2] for line in body] == [["ppo", "beta=1"], ["dpo", "beta=1"]]
    assert body[1][2:6] == ["0.60 ± 0.14", "0.90 ± 0.14", "85.0% ± 7.1%", "none"]


def test_the_curve_begins_at_the_reference_and_rises_ever_less() -> None:
    reference = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], dtype=torch.float64).log()
    rewards = torch.tensor([[1.0, 0.5, 0.0, -0.5, -1.0]], dtype=torch.float64)
    points = curve(Frontier(reference, rewards), 0.514619)
    assert points[0] == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert points[-1] == (pytest.approx(0.514619, abs=1e-6), pytest.approx(0.542707, abs=1e-6))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points[1:])]
    assert slopes == sorted(slopes, reverse=True)


def test_the_drawing_has_a_panel_for_each_method() -> None:
    svg = draw(means(ROWS), [(0.0, 0.0), (1.0, 1.0), (1.6, 1.2)])
    assert svg.startswith("<svg")
    assert all(f">{name}<" in svg for name in ("dpo", "ppo", "KL, nats", "true reward"))
    assert "var(--" not in svg


def test_the_files(tmp_path: Path) -> None:
    ground = Ground.of(REDUCED)
    write(tmp_path, ground, ROWS)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["best"] == {"dpo": "dpo beta=1", "ppo": "ppo beta=1"}
    assert found["scale"]["symbols"] == 3
    assert found["most_above"] == pytest.approx(-0.1)
    assert found["frontier"][-1]["kl"] >= 1.5
    assert (tmp_path / "frontier.svg").is_file()
