"""A world small enough to know everything about: every answer, its true reward, its probability.

Prompts and answers are words over the same few symbols, and no answer has more than a few, so
that all can be listed. A policy is then a table of log-probs, [P, A] for P prompts and A answers;
what is said of it here is computed over all answers, not sampled: E[r] and KL(π ‖ π_ref), both
as means over the prompts.

The largest reward at a given KL is that of π_λ ∝ π_ref e^{λ r} (Rafailov et al. 2023, equation 4,
with λ = 1/β), for one λ: the frontier, which no policy is above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

SYMBOLS, LENGTH, PROMPTS = 8, 4, 4
_PROMPT_LENGTH = 2
_MOST_LAMBDA = 1e6


@dataclass(frozen=True, slots=True)
class World:
    """`prompts` [P, 2] and `answers` [A, T] are ids of symbols, `rewards` [P, A] the truth.

    All answers have T symbols, or, where they `end`, from none to T: those that are shorter end
    with a symbol of its own, `symbols`, which also fills their row.
    """

    symbols: int
    prompts: Tensor
    answers: Tensor
    rewards: Tensor
    ends: bool = False

    @property
    def vocabulary(self) -> int:
        """Symbols, the end included where there is one."""
        return self.symbols + self.ends

    @property
    def words_A(self) -> Tensor:
        """Symbols of each answer, its end left out."""
        return (self.answers < self.symbols).sum(1)

    @property
    def tokens_A(self) -> Tensor:
        """Tokens of each answer: its end is one, but an answer of T symbols has none."""
        return (self.words_A + self.ends).clamp(max=self.answers.shape[1])


@dataclass(frozen=True, slots=True)
class Point:
    """A policy: KL(π ‖ π_ref) in nats, E[r], and the entropy of an answer in nats."""

    kl: float
    reward: float
    entropy: float


def make_world(
    seed: int,
    *,
    symbols: int = SYMBOLS,
    length: int = LENGTH,
    prompts: int = PROMPTS,
    ends: bool = False,
) -> World:
    """A world whose reward is a sum over places and neighbours, partly the prompt's own.

    The sum of potentials of single symbols at their places, of neighbouring symbols, and of the
    first prompt symbol with each answer symbol. Each prompt's rewards have mean 0 and variance 1
    over the answers of every length: where answers `end`, length by itself is worth nothing.
    """
    answers = _all_answers(symbols, length, ends=ends)
    numbers = torch.arange(prompts)
    asked = torch.stack([numbers % symbols, (3 * numbers + numbers // symbols) % symbols], 1)
    world = World(symbols, asked, answers, torch.empty(0), ends)
    rewards = energy(world, *potentials(seed, symbols, length))
    for words in world.words_A.unique():
        some = rewards[:, world.words_A == words]
        some = some - some.mean(1, keepdim=True)
        rewards[:, world.words_A == words] = some / some.std(1, correction=0, keepdim=True).clamp(
            min=1e-12  # of the empty answer alone
        )
    return replace(world, rewards=rewards)


def _all_answers(symbols: int, length: int, *, ends: bool) -> Tensor:
    """Every answer once, [A, T]; the last symbol varies fastest."""
    rows = [torch.full((1, length), symbols)] if ends else []
    for words in range(1 if ends else length, length + 1):
        some = torch.cartesian_prod(*[torch.arange(symbols)] * words).view(-1, words)
        rows.append(pad(some, (0, length - words), value=symbols))
    return torch.cat(rows)


def potentials(seed: int, symbols: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Standard normal: [T, V] by place, [V, V] by neighbours, [V, T, V] by the prompt's symbol."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return normal(length, symbols), normal(symbols, symbols), normal(symbols, length, symbols)


def energy(world: World, places: Tensor, neighbours: Tensor, own: Tensor) -> Tensor:
    """The sum of the potentials of every prompt with every answer, [P, A]."""
    steps = torch.arange(world.answers.shape[1])
    said, symbols = world.answers < world.symbols, world.answers.clamp(max=world.symbols - 1)
    beside = neighbours[symbols[:, :-1], symbols[:, 1:]] * said[:, 1:]
    common = (places[steps, symbols] * said).sum(1) + beside.sum(1)
    return common + (own[world.prompts[:, 0]][:, steps, symbols] * said).sum(2)


def measure(logp_PA: Tensor, reference_PA: Tensor, rewards_PA: Tensor) -> Point:
    """Where a policy stands; all three are float64, log-probs sum to one by prompt."""
    p = logp_PA.exp()
    return Point(
        float(_expected(p, logp_PA - reference_PA)),
        float(_expected(p, rewards_PA)),
        float(-_expected(p, logp_PA)),
    )


def _expected(p: Tensor, values: Tensor) -> Tensor:
    """E over answers, mean over prompts; where p is 0 the value counts as nothing."""
    return torch.where(p > 0, p * values, torch.zeros_like(p)).sum(1).mean()


def tilted(reference_PA: Tensor, rewards_PA: Tensor, slope: float) -> Tensor:
    """log π_λ, the frontier's policy at λ = `slope` = 1/β."""
    return (reference_PA + slope * rewards_PA).log_softmax(1)


@dataclass(frozen=True, slots=True)
class Frontier:
    """The largest E[r] at every KL, of a reference and true rewards."""

    reference: Tensor
    rewards: Tensor

    def at_slope(self, slope: float) -> Point:
        """The frontier's point at λ."""
        policy = tilted(self.reference, self.rewards, slope)
        return measure(policy, self.reference, self.rewards)

    def slope_at(self, kl: float) -> float:
        """λ of the point with that KL; raises `ValueError` for one that no answer reaches."""
        low, high = 0.0, 1.0
        while self.at_slope(high).kl < kl:
            low, high = high, 2 * high
            if high > _MOST_LAMBDA:
                raise ValueError(f"no policy on the frontier is {kl:g} nats from the reference")
        for _ in range(80):  # to the last bits of a float
            middle = (low + high) / 2
            low, high = (middle, high) if self.at_slope(middle).kl < kl else (low, middle)
        return high

    def reward_at(self, kl: float) -> float:
        """The largest E[r] at that KL; past the frontier's end, where it has its largest value."""
        try:
            return self.at_slope(self.slope_at(kl)).reward
        except ValueError:
            return float(self.rewards.max(1).values.mean())

    def share(self, point: Point) -> float:
        """The part of the oracle's gain at equal KL that a policy makes: 1 on the frontier."""
        start = self.at_slope(0.0).reward
        return (point.reward - start) / (self.reward_at(point.kl) - start)


def best_of(n: int, reference_PA: Tensor, scores_PA: Tensor) -> Tensor:
    """log-probs of the best of `n` answers of the reference by a score, ties drawn by chance.

    P(best has score s) = F(s)ⁿ − F(s⁻)ⁿ with F the score's distribution function; within a score
    an answer's share is its reference probability's.
    """
    rows = []
    for reference, scores in zip(reference_PA.exp(), scores_PA, strict=True):
        levels, level = scores.unique(return_inverse=True)
        mass = torch.zeros(len(levels), dtype=torch.float64).index_add(0, level, reference)
        up_to = mass.cumsum(0).clamp(max=1)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), up_to[:-1]])
        rows.append(((up_to**n - before**n)[level] * reference / mass[level]).log())
    return torch.stack(rows).log_softmax(1)
