"""What does RLHF cost that DPO spares? The table that everyone repeats, measured.

Methods get the same pairs and train on the same number of answers: DPO and its family on those of
the pairs, RLHF half of them for its reward model and half of its own samples. Each is run over a
grid of strengths and learning rates. A run that stops at a number that is not finite, or ends
with less reward than it began with, has gone wrong; one that makes less than half of the oracle's
gain has failed: the shares of those are how unstable a method is. The reward, and what it is of
the oracle's gain, at the same KL is interpolated along a method's strengths, at its best rate.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from palate.experiments.experiment import Experiment
from palate.experiments.figures import Mean, Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Learned, Scale
from palate.experiments.online import Sampled, drawn, train_online
from palate.experiments.runs import Case, Point
from palate.experiments.training import Effort, train_offline
from palate.model.policy import Policy

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
AT = 1.0  # nats, where rewards are compared
FAILED = 0.5  # of the oracle's gain
_UPDATE = 128  # answers of a step, on both sides


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A method, the parameter that sets its strength with three values, and what it needs.

    `stages` are trainings after SFT; `models` stand in memory at once: a cached reference does
    not, a value head is part of the policy.
    """

    method: str
    parameter: str
    strengths: tuple[float, float, float]
    judged: bool = False
    models: str = "policy"

    @property
    def line(self) -> str:
        """How it is called."""
        return f"reward model, {self.method}" if self.judged else self.method

    @property
    def held(self) -> int:
        """How many models stand in memory."""
        return len(self.models.split(","))

    @property
    def stages(self) -> int:
        """The reward model is one of its own."""
        return 2 if self.judged else 1


PIPELINES = (
    Pipeline("ppo", "beta", (1, 0.25, 0.05), True, "policy, reference, reward"),
    Pipeline("grpo", "beta", (1, 0.25, 0.05), True, "policy, reference, reward"),
    Pipeline("rloo", "beta", (1, 0.25, 0.05), True, "policy, reference, reward"),
    Pipeline("dpo", "beta", (1, 0.25, 0.05)),
    Pipeline("ipo", "tau", (0.5, 0.1, 0.02)),
    Pipeline("kto", "beta", (2, 0.5, 0.1)),
    Pipeline("orpo", "odds", (0.5, 2, 5)),
    Pipeline("simpo", "beta", (1, 3, 10)),
)


def cases(scale: Scale) -> list[Case]:
    """Every pipeline over three strengths and four rates."""
    return [
        Case(
            one.line,
            f"{one.line}, {one.parameter} {strength:g}, rate {rate:g}",
            partial(_run, one, strength, rate),
        )
        for one in PIPELINES
        for strength in one.strengths
        for rate in RATES
    ]


def _run(one: Pipeline, strength: float, rate: float, ground: Ground, seed: int) -> list[Point]:
    begun = ground.stands(ground.reference)["reward"]
    half = replace(ground.scale.offline, steps=ground.scale.offline.steps // 2, batch=_UPDATE // 2)
    judge = ground.learned(seed, half) if one.judged else None
    began = time.perf_counter()
    sampled = _sampled(ground.scale)
    samples = 0 if judge is None else drawn(one.method, half.steps, sampled)
    try:
        found = ground.stands(_trained(one, strength, rate, ground, seed, judge))
    except FloatingPointError:
        found = {"kl": math.nan, "reward": math.nan, "share": math.nan}
    wrong = not found["reward"] >= begun  # NaN too
    told = {name: found[name] for name in ("kl", "reward", "share")}
    return [
        {
            "rate": rate,
            "strength": strength,
            **told,
            "wrong": float(wrong),
            "samples": float(samples),
            "took": time.perf_counter() - began + (0.0 if judge is None else judge.seconds),
        }
    ]


def _trained(
    one: Pipeline, strength: float, rate: float, ground: Ground, seed: int, judge: Learned | None
) -> Policy:
    """The budget is the scale's; the grid is the method's: a reward model has a rate that suits."""
    steps = ground.scale.offline.steps
    params = {one.parameter: strength}
    if judge is None:
        lab = ground.lab(Effort(steps, _UPDATE // 2, rate), seed)
        return train_offline(lab, one.method, params, ground.pairs(seed))
    lab = ground.lab(Effort(steps // 2, _UPDATE, rate), seed)
    return train_online(lab, one.method, params, judge.scores, _sampled(ground.scale))


def _sampled(scale: Scale) -> Sampled:
    return Sampled(scale.prompts, _UPDATE // scale.prompts)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    line: str
    stages: int
    models: str
    held: int
    samples: float
    seconds: float
    rate: float
    reward: float
    spread: float
    share: float
    wrong: float
    failed: float


def at_equal_kl(points: Sequence[tuple[float, float]], kl: float) -> float:
    """The reward at a KL, between the two (KL, reward) that it lies between; NaN outside.

    Along √KL, over which rewards are nearly a line (Gao et al. 2022, arXiv 2210.10760): a chord
    over KL itself would lie below what most policies between its ends earn.
    """
    ordered = sorted(
        (math.sqrt(max(at, 0.0)), value) for at, value in points if math.isfinite(at + value)
    )
    root = math.sqrt(kl)
    for (left, low), (right, high) in pairwise(ordered):
        if left <= root <= right:
            return low + (high - low) * (root - left) / (right - left) if right > left else high
    return math.nan


def rows(found: Sequence[Mean], kl: float = AT) -> list[Row]:
    """Of each pipeline, at the rate at which its reward at that KL is best."""
    table = []
    for one in PIPELINES:
        own = [mean for mean in found if mean.line == one.line]
        if not own:
            continue
        best: tuple[float, list[float], list[float]] | None = None
        for rate in sorted({mean.value("rate") for mean in own}):
            at = [mean for mean in own if mean.value("rate") == rate]
            rewards, shares = (_by_seed(at, name, kl) for name in ("reward", "share"))
            if not all(map(math.isfinite, rewards)):
                continue
            if best is None or statistics.fmean(rewards) > statistics.fmean(best[1]):
                best = rate, rewards, shares
        rate, rewards, shares = best or (math.nan, [math.nan], [math.nan])
        table.append(
            Row(
                line=one.line,
                stages=one.stages,
                models=one.models,
                held=one.held,
                samples=max(mean.value("samples") for mean in own),
                seconds=statistics.median(value for mean in own for value in mean.each["took"]),
                rate=rate,
                reward=statistics.fmean(rewards),
                spread=statistics.stdev(rewards) if len(rewards) > 1 else 0.0,
                share=statistics.fmean(shares),
                wrong=statistics.fmean(value for mean in own for value in mean.each["wrong"]),
                # NaN too: one that stopped, or stands where it began
                failed=statistics.fmean(
                    not value >= FAILED for mean in own for value in mean.each["share"]
                ),
            )
        )
    return table


def _by_seed(at: Sequence[Mean], name: str, kl: float) -> list[float]:
    """A measure of each seed at a KL, along the strengths."""
    return [
        at_equal_kl([(one.each["kl"][seed], one.each[name][seed]) for one in at], kl)
        for seed in range(at[0].seeds)
    ]


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """The table, by pipeline."""
    return {
        row.line: {
            name: value if isinstance(value, str) or math.isfinite(value) else None
            for name, value in asdict(row).items()
        }
        for row in rows(found)
    }


_TOLD = (
    Measure("stages", "stages", digits=0),
    Measure("held", "models in memory", digits=0),
    Measure("samples", "answers sampled", digits=0),
    Measure("seconds", "seconds", digits=0),
    Measure("rate", "best rate", digits=4),
    Measure("reward", f"reward at {AT:g} nat"),
    Measure("spread", "± over seeds"),
    Measure("share", "of the oracle's gain there", percent=True),
    Measure("failed", "runs that failed", percent=True, digits=1),
    Measure("wrong", "runs gone wrong", percent=True, digits=1),
)


def shown(found: Sequence[Mean]) -> list[Mean]:
    """The pipelines' lines as points."""
    return [
        Mean(
            row.line,
            row.line,
            0,
            {one.name: [getattr(row, one.name)] for one in _TOLD},
            row.seconds,
        )
        for row in rows(found)
    ]


EXPERIMENT = Experiment(
    name="rlhf",
    cases=cases,
    x=KL,
    ys=[REWARD, SHARE],
    told=_TOLD,
    shown=shown,
    found=concluded,
    apart_by="rate",
)
