"""Means and spreads by hand, the table, and the drawing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from palate.experiments.figures import Mean, Measure, _strokes, apart, draw, last, means, table

KL, REWARD = Measure("kl", "KL, nats"), Measure("reward", "true reward")


def row(case: str, seed: int, *points: tuple[float, float]) -> dict[str, Any]:
    return {
        "case": case,
        "line": case.split(" ", maxsplit=1)[0],
        "seed": seed,
        "points": [{"kl": kl, "reward": reward} for kl, reward in points],
        "seconds": 3.0 + seed,
    }


ROWS = [
    row("dpo a", 0, (0.5, 0.8)),
    row("ppo", 0, (0.1, 0.2), (0.4, 0.7)),
    row("dpo a", 1, (0.7, 1.0)),
    row("ppo", 1, (0.1, 0.4), (0.6, 0.5)),
]


def test_means_and_spreads_by_hand() -> None:
    found = means(ROWS)
    assert [(one.case, one.place) for one in found] == [("dpo a", 0), ("ppo", 0), ("ppo", 1)]
    first = found[0]
    assert (first.line, first.seeds, first.seconds) == ("dpo", 2, 3.5)
    assert first.value("kl") == pytest.approx(0.6)
    assert first.spread("kl") == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(first.value("not there"))
    assert [one.place for one in last(found)] == [0, 1]
    assert first.to_json()["reward"] == [0.9, round(0.2 / math.sqrt(2), 6)]


def test_differences_are_taken_seed_by_seed() -> None:
    """Of (.2, .4) and (.7, .5): gaps −.5 and −.1, mean −.3, standard error .2."""
    _, begin, end = means(ROWS)
    assert apart(begin, end, "reward") == pytest.approx(-1.5)
    assert apart(end, end, "reward") == 0
    assert apart(begin, begin, "kl") == 0


def test_a_value_that_is_missing_is_said_to_be() -> None:
    (only,) = means([row("sft", 0, (0.0, math.nan)), row("sft", 1, (0.0, 1.0))])
    assert math.isnan(only.spread("reward"))
    assert only.to_json()["reward"] == [None, None]
    assert table([only], [KL, REWARD])[1] == [["sft", "0.00", "-"]]


def test_the_table() -> None:
    share = Measure("reward", "share", percent=True, digits=1)
    header, body = table(last(means(ROWS)), [KL, share])
    assert header == ["", "KL, nats", "share"]
    assert body == [["dpo a", "0.60 ± 0.14", "90% ± 14%"], ["ppo", "0.50 ± 0.14", "60% ± 14%"]]
    (one,) = means(ROWS[:1])
    assert table([one], [KL])[1] == [["dpo a", "0.50"]]


def test_what_is_joined() -> None:
    """Cases with a point each are a stroke of their line, or of its points with the same value."""
    some = [
        Mean(f"dpo {n}", "dpo", 0, {"rate": [rate], "kl": [float(n)]}, 1.0)
        for n, rate in enumerate((1.0, 2.0, 1.0))
    ]
    run = [Mean("ppo", "ppo", place, {"rate": [1.0]}, 1.0) for place in range(2)]
    whole = [[one.case for one in stroke] for stroke in _strokes([*some, *run], None)]
    assert whole == [["dpo 0", "dpo 1", "dpo 2"], ["ppo", "ppo"]]
    parts = [[one.case for one in stroke] for stroke in _strokes(some, "rate")]
    assert parts == [["dpo 0", "dpo 2"], ["dpo 1"]]


def test_the_drawing_has_a_panel_for_each_line_and_measure() -> None:
    svg = draw(means(ROWS), KL, [REWARD], [(0.0, 0.0), (1.0, 1.0)])
    assert svg.startswith("<svg")
    assert all(f">{name}<" in svg for name in ("dpo", "ppo", "KL, nats", "true reward"))
    assert "var(--" not in svg
    two = draw(means(ROWS), Measure("kl", "counts", log=True), [REWARD, Measure("kl", "again")])
    assert two.count(">dpo<") == 2
    assert two.count(">again<") == 2
