"""What all runs of an experiment have in common: the world, the reference, the data, the effort."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from palate.experiments.data import Pairs, Thumbs, Words, draw_pairs
from palate.experiments.figures import Measure
from palate.experiments.learner import reference, table
from palate.experiments.online import Sampled, score_table, train_online
from palate.experiments.training import Effort, Lab, Watch, train_offline
from palate.experiments.world import Frontier, World, make_world, measure
from palate.model.policy import Policy

WORLD_SEED = 0
_OFFLINE, _ONLINE = Effort(400, 64, 1e-3), Effort(200, 64, 1e-3)
# What `Ground.stands` tells.
KL = Measure("kl", "KL, nats")
REWARD = Measure("reward", "true reward")
SHARE = Measure("share", "of the oracle's gain", percent=True)
_HELDOUT_SEED = 7_777_777  # of pairs that no run trains on


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of everything: the world, the data, and what a run may take of them."""

    symbols: int = 8
    length: int = 4
    prompts: int = 4
    pairs: int = 20_000
    offline: Effort = _OFFLINE
    online: Effort = _ONLINE
    answers: int = 16
    ends: bool = False


FULL = Scale()
REDUCED = Scale(3, 3, 4, 4000, Effort(120, 64, 1e-3), Effort(40, 64, 1e-3), 16)
# Where answers end by themselves: 5,461 of up to six symbols, or 63 of up to five.
FULL_ENDS = replace(FULL, symbols=4, length=6, ends=True)
REDUCED_ENDS = replace(REDUCED, symbols=2, length=5, ends=True)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a reward model says of every answer, [P, A], and the seconds that it took to train."""

    scores: Tensor
    seconds: float


@dataclass(frozen=True, slots=True)
class Ground:
    """A world, its reference and its frontier, at a scale."""

    scale: Scale
    words: Words
    start: Policy
    reference: Tensor
    frontier: Frontier
    _learned: dict[tuple[int, Effort | None], Learned] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def of(cls, scale: Scale) -> Ground:
        """A world and its reference; takes a minute at full scale."""
        world = make_world(
            WORLD_SEED,
            symbols=scale.symbols,
            length=scale.length,
            prompts=scale.prompts,
            ends=scale.ends,
        )
        start = reference(world, WORLD_SEED)
        logps = table(start, world)
        return cls(scale, Words(world), start, logps, Frontier(logps, world.rewards))

    @property
    def world(self) -> World:
        """The world itself."""
        return self.words.world

    def lab(self, effort: Effort, seed: int) -> Lab:
        """A run's beginning."""
        return Lab(self.start, self.words, effort, seed)

    def pairs(
        self,
        seed: int,
        count: int | None = None,
        *,
        flips: float = 0.0,
        drawn: Tensor | None = None,
        judged: Tensor | None = None,
        rivals: Callable[[Tensor], Tensor] | None = None,
    ) -> Pairs:
        """What the annotators say, by the seed of a run.

        Of the reference's answers, or of those of `drawn`; by the truth, or by what is `judged`.
        """
        policy = self.reference if drawn is None else drawn
        scores = self.world.rewards if judged is None else judged
        count = count or self.scale.pairs
        return draw_pairs(policy, scores, count, seed, flips=flips, rivals=rivals)

    def heldout(self, seed: int, count: int = 512, **how: Any) -> Pairs:
        """Pairs that the runs of that seed do not have; made as `pairs` makes them."""
        return self.pairs(_HELDOUT_SEED + seed, count, **how)

    def train(
        self,
        method: str,
        params: Mapping[str, Any],
        data: Pairs | Thumbs,
        seed: int,
        effort: Effort | None = None,
        watch: Watch | None = None,
    ) -> Policy:
        """A method that learns from pairs or thumbs."""
        lab = self.lab(effort or self.scale.offline, seed)
        return train_offline(lab, method, params, data, watch)

    def sample(
        self,
        method: str,
        params: Mapping[str, Any],
        scores_PA: Tensor,
        seed: int,
        effort: Effort | None = None,
        watch: Watch | None = None,
        *,
        sampled: Sampled | None = None,
    ) -> Policy:
        """A method that learns from its own samples, judged by scores [P, A].

        A rollout has the scale's answers to each prompt, unless it is `sampled` otherwise.
        """
        lab = self.lab(effort or self.scale.online, seed)
        sampled = sampled or self.sampled(self.scale.answers)
        return train_online(lab, method, params, scores_PA, sampled, watch)

    def sampled(self, answers: int, **how: Any) -> Sampled:
        """A rollout of as many answers as the scale's, so many to a prompt."""
        return Sampled(self.scale.prompts * self.scale.answers // answers, answers, **how)

    def learned(self, seed: int, effort: Effort | None = None) -> Learned:
        """The reward model of the seed's pairs, which is trained once for runs in a row."""
        wanted = seed, effort
        if wanted not in self._learned:
            self._learned.clear()
            began = time.perf_counter()
            scores = self.reward_model(self.pairs(seed), seed, effort)
            self._learned[wanted] = Learned(scores, time.perf_counter() - began)
        return self._learned[wanted]

    def reward_model(self, pairs: Pairs, seed: int, effort: Effort | None = None) -> Tensor:
        """Scores of a reward model of these pairs, [P, A], with mean 0 by prompt."""
        scores = score_table(self.train("reward", {}, pairs, seed, effort), self.words)
        return scores - scores.mean(1, keepdim=True)

    def stands(self, policy: Policy | Tensor) -> dict[str, float]:
        """Where a policy, or its log-probs, is: KL, reward, entropy, share of the oracle's gain.

        `above` is how far the reward is above the frontier: never more than rounding.
        """
        logps = policy if isinstance(policy, Tensor) else table(policy, self.world)
        point = measure(logps, self.reference, self.world.rewards)
        share = self.frontier.share(point) if point.kl > 1e-6 else math.nan
        above = point.reward - self.frontier.reward_at(max(point.kl, 0.0))
        return {
            "kl": point.kl,
            "reward": point.reward,
            "entropy": point.entropy,
            "share": share,
            "above": above,
        }
