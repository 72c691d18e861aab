"""Experiment 1: how near to the exact reward-KL frontier each method comes.

Every run begins with the same reference and has the same pairs of the reference's answers, which
the world's annotators judged, or samples of its own; where it then stands is computed over all
answers. A seed draws other pairs, other samples and another order. Runs are lines of a file, so
that what was stopped goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from palate.experiments.data import Pairs, Words, draw_pairs
from palate.experiments.learner import reference, table
from palate.experiments.online import Sampled, score_table, train_online
from palate.experiments.training import Effort, Lab, train_offline
from palate.experiments.world import Frontier, best_of, make_world, measure
from palate.model.policy import Policy
from palate.resumable import RowLog

Judge = Literal["none", "learned", "true"]
WORLD_SEED = 0
_OFFLINE, _ONLINE = Effort(400, 64, 1e-3), Effort(200, 128, 1e-3)


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of everything: the world, the data, and what a run may take of them."""

    symbols: int = 8
    length: int = 4
    prompts: int = 8
    pairs: int = 20_000
    offline: Effort = _OFFLINE
    online: Effort = _ONLINE
    answers: int = 16


FULL = Scale()
REDUCED = Scale(3, 3, 4, 4000, Effort(120, 64, 1e-3), Effort(40, 64, 1e-3), 16)


@dataclass(frozen=True, slots=True)
class Setting:
    """A method with its parameters, and who judges what it samples.

    `share` is that of the effort's steps: the axis of methods without a strength to set.
    """

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    judge: Judge = "none"
    share: float = 1.0

    @property
    def key(self) -> str:
        """What it is called in the file of runs."""
        words = [f"{name}={value:g}" for name, value in self.params.items()]
        words += [f"steps={self.share:g}"] if self.share != 1 else []
        words += [f"{self.judge} reward"] if self.judge != "none" else []
        return " ".join([self.method, *words])

    @property
    def line(self) -> str:
        """The method and its judge: what is one line of the plot."""
        return self.method if self.judge == "none" else f"{self.method}, {self.judge} reward"


def settings() -> list[Setting]:
    """Every method over the axis that moves it along the frontier."""
    found: list[Setting] = []
    found += [Setting("sft", share=share) for share in (0.125, 0.25, 0.5, 1, 2)]
    strengths: dict[tuple[str, str], Sequence[float]] = {
        ("dpo", "beta"): (2, 1, 0.5, 0.25, 0.1, 0.05),
        ("robust-dpo", "beta"): (2, 1, 0.5, 0.25, 0.1),
        ("ipo", "tau"): (1, 0.5, 0.2, 0.1, 0.05, 0.02),
        ("kto", "beta"): (4, 2, 1, 0.5, 0.25),
        ("orpo", "odds"): (0.1, 0.5, 1, 2, 5),
        ("simpo", "beta"): (0.5, 1, 2, 5, 10),
        ("spin", "beta"): (2, 1, 0.5, 0.25, 0.1),
        ("sppo", "eta"): (0.5, 1, 2, 5, 10),
    }
    for (method, name), values in strengths.items():
        judge: Judge = "learned" if method == "sppo" else "none"
        found += [Setting(method, {name: value}, judge) for value in values]
    for judge in ("learned", "true"):
        for method in ("grpo", "rloo", "ppo"):
            found += [Setting(method, {"beta": b}, judge) for b in (2, 1, 0.5, 0.25, 0.1)]
        found += [Setting("best-of-n", {"n": 2**k}, judge) for k in range(1, 9)]
    return found


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs have in common."""

    scale: Scale
    words: Words
    start: Policy
    reference: Tensor
    frontier: Frontier

    @classmethod
    def of(cls, scale: Scale) -> Ground:
        """A world and its reference; takes a minute at full scale."""
        world = make_world(
            WORLD_SEED, symbols=scale.symbols, length=scale.length, prompts=scale.prompts
        )
        start = reference(world, WORLD_SEED)
        logps = table(start, world)
        return cls(scale, Words(world), start, logps, Frontier(logps, world.rewards))

    def pairs(self, seed: int, count: int | None = None, flips: float = 0.0) -> Pairs:
        """What the annotators said, by the seed of a run."""
        world, count = self.words.world, count or self.scale.pairs
        return draw_pairs(world, self.reference, count, seed, flips)

    def lab(self, effort: Effort, seed: int) -> Lab:
        """A run's beginning."""
        return Lab(self.start, self.words, effort, seed)

    def learned(self, seed: int) -> Tensor:
        """Scores of a reward model of the seed's pairs, [P, A], with mean 0 by prompt."""
        scorer = train_offline(self.lab(self.scale.offline, seed), "reward", {}, self.pairs(seed))
        scores = score_table(scorer, self.words)
        return scores - scores.mean(1, keepdim=True)

    def stands(self, logps: Tensor) -> dict[str, float]:
        """Where a policy is: KL, reward, entropy, and its share of the oracle's gain there."""
        point = measure(logps, self.reference, self.words.world.rewards)
        share = self.frontier.share(point) if point.kl > 1e-6 else math.nan
        above = point.reward - self.frontier.reward_at(max(point.kl, 0.0))
        return {
            "kl": point.kl,
            "reward": point.reward,
            "entropy": point.entropy,
            "share": share,
            "above": above,
        }


def perform(ground: Ground, setting: Setting, seed: int, scores: Tensor | None) -> dict[str, Any]:
    """One run: where it came to, how long it took, and how many answers it sampled.

    `scores` are those by which it is judged, None where nobody judges.
    """
    began = time.perf_counter()
    samples = 0
    if setting.method == "best-of-n":
        assert scores is not None, "somebody chooses the best"
        logps = best_of(int(setting.params["n"]), ground.reference, scores)
    elif setting.judge == "none" and setting.method != "spin":
        effort = _part(ground.scale.offline, setting.share)
        lab = ground.lab(effort, seed)
        found = train_offline(lab, setting.method, setting.params, ground.pairs(seed))
        logps = table(found, ground.words.world)
    else:
        logps, samples = _online(ground, setting, seed, scores)
    return {
        "setting": setting.key,
        "line": setting.line,
        "seed": seed,
        **ground.stands(logps),
        "samples": samples,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _online(
    ground: Ground, setting: Setting, seed: int, scores: Tensor | None
) -> tuple[Tensor, int]:
    scale = ground.scale
    shown = ground.pairs(seed) if setting.method == "spin" else None
    sampled = Sampled(scale.prompts, scale.answers, shown=shown)
    judged = ground.words.world.rewards if scores is None else scores
    lab = ground.lab(_part(scale.online, setting.share), seed)
    found = train_online(lab, setting.method, setting.params, judged, sampled)
    return table(found, ground.words.world), lab.effort.steps * lab.effort.batch


def _part(effort: Effort, share: float) -> Effort:
    return replace(effort, steps=max(1, round(share * effort.steps)))


def run_all(
    ground: Ground,
    path: Path,
    chosen: Sequence[Setting],
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Every setting with every seed, in order; those that the file holds already are not run again.

    Raises `ValueError` for a file of another scale or other settings.
    """
    order = [(seed, setting) for seed in seeds for setting in chosen]
    what = {"scale": asdict(ground.scale), "settings": [one.key for one in chosen]}
    with RowLog(path, what, [1] * len(order)) as log:
        learned: tuple[int, Tensor] | None = None
        for seed, setting in order[len(log.rows) :]:
            scores: Tensor | None = None
            if setting.judge == "true":
                scores = ground.words.world.rewards
            elif setting.judge == "learned":
                if learned is None or learned[0] != seed:
                    learned = seed, ground.learned(seed)
                scores = learned[1]
            row = perform(ground, setting, seed, scores)
            log.append([row])
            say(
                f"{setting.key}, seed {seed}: KL {row['kl']:.2f}, reward {row['reward']:.2f}, "
                f"{row['share']:.0%} of the oracle's gain, {row['seconds']:.0f} s"
            )
        return list(log.rows)
