"""When does more training make the true reward fall?

Few pairs, and steps without end: the true reward against √KL along a run, for methods that learn
from the pairs, for one that learns from a reward model of them, and for the remedies: a stronger
tie to the reference, more pairs, the truth as the judge, or to stop where the loss of pairs that
are not trained on is lowest.
Source: arXiv 2210.10760, 2406.02900.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from palate.evaluate.findings import displaced, rose_again
from palate.experiments.experiment import Experiment
from palate.experiments.figures import CLEAR, Mean, Measure, errors, runs
from palate.experiments.ground import KL, REWARD, Ground, Scale
from palate.experiments.runs import Case, Point
from palate.experiments.training import Watch
from palate.model.policy import Policy

_SHARE = 0.05  # of the scale's pairs: 1,000
_LONGER = 2  # times the scale's steps
_LOOKS = 20


def cases(scale: Scale) -> list[Case]:
    """Lines of (method, parameters, share of the pairs), and the two that are judged."""
    few = round(_SHARE * scale.pairs)
    offline: list[tuple[str, str, Mapping[str, Any], int]] = [
        ("dpo, weak tie", "dpo", {"beta": 0.05}, few),
        ("dpo, strong tie", "dpo", {"beta": 1.0}, few),
        ("dpo, all pairs", "dpo", {"beta": 0.05}, scale.pairs),
        ("ipo", "ipo", {"tau": 0.05}, few),
        ("kto", "kto", {"beta": 0.1}, few),
    ]
    found = [
        Case(line, line, partial(_offline, method, params, count))
        for line, method, params, count in offline
    ]
    for judge in ("learned", "true"):
        line = f"grpo, {judge} reward"
        found.append(Case(line, line, partial(_online, judge, few)))
    return found


def _offline(
    method: str, params: Mapping[str, Any], count: int, ground: Ground, seed: int
) -> list[Point]:
    effort = ground.scale.offline
    effort = replace(effort, steps=_LONGER * effort.steps, schedule="constant")
    points: list[Point] = []
    losses: list[Mapping[str, Any]] = []
    lines: list[Mapping[str, Any]] = []

    def look(
        step: int, policy: Policy, trained: Mapping[str, float], heldout: Mapping[str, float]
    ) -> None:
        losses.append({"step": step, "loss": heldout["loss"]})
        lines.append(trained)
        points.append(
            {
                "step": step,
                "heldout": heldout["loss"],
                "alarm": float(rose_again(losses)),
                "note": float(displaced(lines)),
                **_stands(ground, policy),
            }
        )

    watch = Watch(effort.steps // _LOOKS, look, ground.heldout(seed))
    ground.train(method, params, ground.pairs(seed, count), seed, effort, watch)
    return points


def _online(judge: str, count: int, ground: Ground, seed: int) -> list[Point]:
    """By a reward model of the same few pairs, or by the truth; nearly without a tie."""
    effort = ground.scale.online
    effort = replace(effort, steps=_LONGER * effort.steps, schedule="constant")
    scores = ground.world.rewards
    if judge == "learned":
        scores = ground.reward_model(ground.pairs(seed, count), seed)
    points: list[Point] = [{"step": 0, **_stands(ground, ground.start)}]

    def look(step: int, policy: Policy, *_: Mapping[str, float]) -> None:
        points.append({"step": step, **_stands(ground, policy)})

    watch = Watch(effort.steps // _LOOKS, look)
    ground.sample("grpo", {"beta": 0.02}, scores, seed, effort, watch)
    return points


def _stands(ground: Ground, policy: Policy) -> Point:
    found = ground.stands(policy)
    return {"root_kl": math.sqrt(max(found["kl"], 0.0)), **found}


def turning(points: Sequence[Mean]) -> tuple[Mean, Mean, float]:
    """A run's highest mean reward, its end, and how many standard errors the end is below.

    The highest of many means is high by luck too: for the errors, each seed is measured at the
    place where the other seeds have theirs.
    """
    peak, end = max(points, key=lambda one: one.value("reward")), points[-1]
    if peak is end or end.seeds < 2:
        return peak, end, math.nan if peak is not end else 0.0
    ends = end.each["reward"]
    gaps = [_highest_of_others(points, seed) - ends[seed] for seed in range(end.seeds)]
    return peak, end, errors(gaps)


def _highest_of_others(points: Sequence[Mean], seed: int) -> float:
    def without(one: Mean) -> float:
        return sum(value for n, value in enumerate(one.each["reward"]) if n != seed)

    return max(points, key=without).each["reward"][seed]


def stopped(points: Sequence[Mean]) -> Mean | None:
    """Where the mean loss of held-out pairs is lowest; None of runs that have none."""
    if "heldout" not in points[0].each:
        return None
    return min(points, key=lambda one: one.value("heldout"))


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """Of each line: the peak, the end, whether it fell, the first alarm and an early stop."""
    lines = {}
    for points in runs(found):
        peak, end, fall = turning(points)
        early = stopped(points)
        lines[points[0].line] = {
            "peak": {name: round(peak.value(name), 4) for name in ("step", "kl", "reward")},
            "end": {name: round(end.value(name), 4) for name in ("step", "kl", "reward")},
            "fall_in_standard_errors": round(fall, 2) if math.isfinite(fall) else None,
            "falls": fall > CLEAR,
            "alarm_at_step": _first(points, "alarm"),
            "note_at_step": _first(points, "note"),
            "stopped_early": round(early.value("reward"), 4) if early is not None else None,
        }
    return lines


def _first(points: Sequence[Mean], name: str) -> float | None:
    """The step from which most seeds have it."""
    return next((one.value("step") for one in points if one.value(name) > 0.5), None)


def shown(found: Sequence[Mean]) -> list[Mean]:
    """Peak, early stop and end of each line."""
    rows: list[Mean] = []
    for points in runs(found):
        peak, end, _ = turning(points)
        early = stopped(points)
        for one, what in ((peak, "at its peak"), (early, "lowest held-out loss"), (end, "end")):
            if one is not None:
                rows.append(replace(one, case=f"{one.line}: {what}"))
    return rows


EXPERIMENT = Experiment(
    name="over-optimisation",
    cases=cases,
    x=Measure("root_kl", "√KL"),
    ys=[REWARD],
    told=[
        Measure("step", "step", digits=0),
        KL,
        REWARD,
        Measure("heldout", "held-out loss", digits=3),
        Measure("alarm", "runs with the alarm", percent=True, digits=1),
        Measure("note", "with the note", percent=True, digits=1),
    ],
    shown=shown,
    found=concluded,
)
