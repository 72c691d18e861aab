"""How near to the exact reward-KL frontier each method comes.

Every run begins with the same reference and has the same pairs of the reference's answers, which
the world's annotators judged, or samples of its own; where it then stands is computed over all
answers. A seed draws other pairs, other samples and another order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from palate.experiments.experiment import Experiment
from palate.experiments.figures import Curve, Mean, Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.online import drawn
from palate.experiments.runs import Case, Point
from palate.experiments.training import Effort
from palate.experiments.world import Frontier, best_of

Judge = Literal["none", "learned", "true"]
_CURVE = 60  # points of the frontier's drawing
_MORE = 4
_ROUNDS = 4  # of self-play: steps between two of them have one reference
# Answers to a prompt, of methods that learn a pair from each group: 64 pairs a step, or 16.
_EACH = {"spin": 1, "sppo": 4}


@dataclass(frozen=True, slots=True)
class Setting:
    """A method with its parameters, and who judges what it samples.

    `share` is that of the effort's steps: the axis of methods without a strength to set. `more`
    is how many times the pairs, and the steps, of the others it has.
    """

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    judge: Judge = "none"
    share: float = 1.0
    more: int = 1

    @property
    def key(self) -> str:
        """What it is called among the runs."""
        words = [f"{name}={value:g}" for name, value in self.params.items()]
        words += [f"steps={self.share:g}"] if self.share != 1 else []
        words += [f"{self.more} times the pairs"] if self.more != 1 else []
        words += [f"{self.judge} reward"] if self.judge != "none" else []
        return " ".join([self.method, *words])

    @property
    def line(self) -> str:
        """The method, its judge and its data: what is one line of the plot."""
        words = [self.method]
        words += [f"{self.judge} reward"] if self.judge != "none" else []
        words += [f"{self.more} times the pairs"] if self.more != 1 else []
        return ", ".join(words)


def settings() -> list[Setting]:
    """Every method over the axis that moves it along the frontier."""
    found: list[Setting] = []
    found += [Setting("sft", share=share) for share in (0.125, 0.25, 0.5, 1)]
    strengths: dict[tuple[str, str], Sequence[float]] = {
        ("dpo", "beta"): (2, 1, 0.5, 0.25, 0.1),
        ("robust-dpo", "beta"): (1, 0.5, 0.25),
        ("ipo", "tau"): (1, 0.3, 0.1, 0.03),
        ("kto", "beta"): (2, 1, 0.5, 0.25),
        ("orpo", "odds"): (0.2, 0.5, 1, 3),
        ("simpo", "beta"): (0.5, 1, 3, 10),
        ("spin", "beta"): (30, 10, 2, 0.5),
        ("sppo", "eta"): (0.5, 1, 3, 10),
    }
    found += [Setting("dpo", {"beta": beta}, more=_MORE) for beta in (0.25, 0.1)]
    for (method, name), values in strengths.items():
        judge: Judge = "learned" if method == "sppo" else "none"
        found += [Setting(method, {name: value}, judge) for value in values]
    for judge in ("learned", "true"):
        for method in ("grpo", "rloo", "ppo"):
            found += [Setting(method, {"beta": b}, judge) for b in (1, 0.5, 0.25, 0.1)]
        found += [Setting("best-of-n", {"n": 2**k}, judge) for k in range(1, 9)]
    return found


def cases(scale: Scale) -> list[Case]:
    """The settings as runs."""

    def case(setting: Setting) -> Case:
        return Case(setting.line, setting.key, lambda on, seed: [stands(on, setting, seed)])

    return [case(setting) for setting in settings()]


def stands(ground: Ground, setting: Setting, seed: int) -> Point:
    """Where one run comes to, and how many answers it sampled."""
    learned = setting.judge == "learned"
    scores = ground.learned(seed).scores if learned else ground.world.rewards
    if setting.method == "best-of-n":
        found = best_of(int(setting.params["n"]), ground.reference, scores)
        return {**ground.stands(found), "samples": 0}
    if setting.judge == "none" and setting.method != "spin":
        effort = part(ground.scale.offline, setting.share * setting.more)
        pairs = ground.pairs(seed, setting.more * ground.scale.pairs)
        policy = ground.train(setting.method, setting.params, pairs, seed, effort)
        return {**ground.stands(policy), "samples": 0}
    effort = part(ground.scale.online, setting.share)
    sampled = ground.sampled(_EACH.get(setting.method, ground.scale.answers))
    if setting.method == "spin":
        # With a new reference at each step every margin is 0, and Adam forgets the β before it.
        fresh = max(1, effort.steps // _ROUNDS)
        sampled = replace(sampled, shown=ground.pairs(seed), fresh=fresh)
    policy = ground.sample(setting.method, setting.params, scores, seed, effort, sampled=sampled)
    return {**ground.stands(policy), "samples": drawn(setting.method, effort.steps, sampled)}


def part(effort: Effort, share: float) -> Effort:
    """A share of the steps."""
    return replace(effort, steps=max(1, round(share * effort.steps)))


def nearest(found: Sequence[Mean]) -> list[Mean]:
    """Of each line the case that makes most of the oracle's gain, the best line first."""
    best: dict[str, Mean] = {}
    for one in found:
        if one.line not in best or _share(one) > _share(best[one.line]):
            best[one.line] = one
    return sorted(best.values(), key=lambda one: -_share(one))


def _share(one: Mean) -> float:
    share = one.value("share")
    return -1.0 if math.isnan(share) else share


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """How far the farthest run is above the frontier, and where each line comes nearest."""
    return {
        "most_above": max(max(one.each["above"]) for one in found),
        "nearest": {one.line: one.case for one in nearest(found)},
    }


def curve(frontier: Frontier, most: float) -> Curve:
    """(KL, reward) along the frontier from the reference to a KL of `most`."""
    points = [frontier.at_slope(0.0)]
    far = frontier.slope_at(most)
    points += [frontier.at_slope(far * (n / _CURVE) ** 2) for n in range(1, _CURVE + 1)]
    return [(point.kl, point.reward) for point in points]


def border(ground: Ground, found: Sequence[Mean]) -> Curve:
    """The frontier as far as the runs go, and not to its very end."""
    best = ground.frontier.rewards.argmax(1, keepdim=True)
    end = float(-ground.frontier.reference.gather(1, best).mean())
    far = 1.05 * max(one.value("kl") for one in found)
    return curve(ground.frontier, min(far, 0.98 * end))


EXPERIMENT = Experiment(
    name="frontier",
    cases=cases,
    x=KL,
    ys=[REWARD],
    told=[KL, REWARD, SHARE, Measure("samples", "answers sampled", digits=0)],
    shown=nearest,
    found=concluded,
    border=border,
)
