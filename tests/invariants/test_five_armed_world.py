"""A world that can be solved on paper: one prompt, five answers, known rewards.

Every ordered pair of answers is compared, the first wins with probability σ(r_i − r_j)
(Bradley-Terry). The policy is a table of logits, so what a loss reaches is its optimum and
nothing of a model's. All on the registry's own losses.

Notation: g = log π/π_ref by answer, P_i = the mean over j ≠ i of σ(r_i − r_j).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.losses.sides import context_of
from torch import Tensor

from palate.losses.batch import Demonstrations, Pairs, Side
from palate.losses.registry import METHODS, find

BETA = 0.5
FIRST, SECOND = (t for t in torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j]).T)


def wide(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class World:
    """Rewards and reference of the five answers."""

    rewards: Tensor
    reference: Tensor

    @property
    def labels(self) -> Tensor:
        """How often the first of each ordered pair wins."""
        return torch.sigmoid(self.rewards[FIRST] - self.rewards[SECOND])

    @property
    def win_rate(self) -> Tensor:
        """P: how often each answer wins against the others."""
        return torch.zeros(5, dtype=torch.float64).index_add(0, FIRST, self.labels) / 4

    def tilted(self, exponent: Tensor) -> Tensor:
        """π_ref e^exponent / Z."""
        return (self.reference.log() + exponent).softmax(0)


REWARDS = wide([1.0, 0.5, 0.0, -0.5, -1.0])
UNEVEN = wide([0.1, 0.2, 0.4, 0.2, 0.1])
UNIFORM = wide([0.2] * 5)
SPECIFIED = World(REWARDS, UNEVEN)
EVEN = World(REWARDS, UNIFORM)
# Two good answers and three bad ones. Between levels there is one margin h, within a level none:
# a loss of margins can then have exactly the h that is best for a single pair.
STEP = 1.5
LEVELS = World(wide([STEP, STEP, 0.0, 0.0, 0.0]), UNEVEN)
P = 1 / (1 + math.exp(-STEP))  # how often a good answer beats a bad one
GOOD = wide([1.0, 1.0, 0.0, 0.0, 0.0])


def population(logits: Tensor, world: World) -> Pairs:
    """The ordered pairs as one-token answers of a policy with these logits."""
    logp = logits.log_softmax(-1)
    ratio = logp - world.reference.log()
    divergence = (world.reference * -ratio).sum(-1, keepdim=True)
    squares = (2 * logp).logsumexp(-1, keepdim=True)

    def side(answer: Tensor) -> Side:
        picked = ratio[..., answer].flatten()
        ones = torch.ones_like(picked)
        sums = {
            "common_ratio": picked,
            "kl": divergence.expand(*ratio.shape[:-1], 20).flatten(),
            "log_sum_p2": squares.expand(*ratio.shape[:-1], 20).flatten(),
        }
        score = logits[..., answer].flatten()
        return Side(logp[..., answer].flatten(), picked, ones, sums, score)

    return Pairs(side(FIRST), side(SECOND))


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The logits of least loss."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-11, tolerance_change=0, history_size=20, lr=0.5
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits)
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)
    return logits.detach()


def trained(world: World, labels: Tensor, **given: Any) -> Tensor:
    """The policy that a method reaches from the reference, with pairs weighted by `labels`.

    Step statistics are those of all pairs at once; a running mean starts anew each step.
    """
    method, params = find(given)

    def loss(logits: Tensor) -> Tensor:
        batch = population(logits, world)
        value = method.loss(batch, params, context_of(method, params, batch))
        return (labels * value.loss_B).sum() / labels.sum()

    return minimise(loss, world.reference.log()).softmax(-1)


def apart(one: Tensor, other: Tensor) -> float:
    """Total variation."""
    return float((one - other).abs().sum(-1).mean() / 2)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function is 0."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def by_divergence(world: World, inverse: Callable[[Tensor], Tensor], most: float) -> Tensor:
    """π_ref u with f′(u_y) = r_y/β + c, c from Σ π_ref u = 1; f′ stays below `most`."""
    scaled = world.rewards / BETA
    end = most - float(scaled.max())

    def surplus(c: float) -> float:
        return float((world.reference * inverse(scaled + c)).sum()) - 1

    return world.reference * inverse(scaled + root(surplus, -50.0, min(end, 50.0)))


def ipo_optimum(world: World, tau: float) -> Tensor:
    # The weighted squares of a pair, p(h − t)² + (1 − p)(h + t)² with t = 1/(2τ), are
    # (h − (2p − 1)t)² and a constant. Over all pairs of h = g_i − g_j that is least squares on the
    # complete graph: g_i = (1/5) Σ_j (2p_ij − 1) t, up to a constant.
    wins = world.win_rate * 4
    return world.tilted((2 * wins - 4) / (2 * tau) / 5)


def sppo_optimum(world: World, eta: float) -> Tensor:
    # Answer i is chosen with P_i and rejected with 1 − P_i: P_i(g − η/2)² + (1 − P_i)(g + η/2)² is
    # (g − t_i)² and a constant, t_i = η(P_i − ½). The g belong to a distribution, Σ π_ref e^g = 1:
    # with a multiplier, g_i + μ π_ref,i e^g_i = t_i
    target = eta * (world.win_rate - 0.5)

    def solved(mu: float) -> Tensor:
        g = [
            root(lambda x, t=t, q=q: x + mu * q * math.exp(x) - t, -30.0, 30.0)  # type: ignore[misc]
            for t, q in zip(target.tolist(), world.reference.tolist(), strict=True)
        ]
        return world.reference * wide(g).exp()

    return solved(root(lambda mu: 1 - float(solved(mu).sum()), 0.0, 50.0))


def simpo_margin(gamma: float) -> float:
    # p σ(γ − z) = (1 − p) σ(γ + z) with t = e^z, k = e^−γ: (1 − p)k t² − (2p − 1)t − pk = 0
    k, b = math.exp(-gamma), 2 * P - 1
    return math.log((b + math.sqrt(b * b + 4 * P * (1 - P) * k * k)) / (2 * (1 - P) * k))


def flipped(labels: Tensor, share: float) -> Tensor:
    return (1 - share) * labels + share * (1 - labels)


Case = tuple[dict[str, Any], World, Tensor, Tensor]
DPO_OPTIMUM = SPECIFIED.tilted(REWARDS / BETA)
LABELS = SPECIFIED.labels


def like_dpo(**given: Any) -> Case:
    return {"beta": BETA, **given}, SPECIFIED, LABELS, DPO_OPTIMUM


def of_levels(h: float, **given: Any) -> Case:
    return given, LEVELS, LEVELS.labels, LEVELS.tilted(h * GOOD)


def of_divergence(name: str, inverse: Callable[[Tensor], Tensor], most: float) -> Case:
    given = {"name": "f-dpo", "divergence": name, "beta": BETA}
    return given, SPECIFIED, LABELS, by_divergence(SPECIFIED, inverse, most)


OPTIMA: dict[str, Case] = {
    # arXiv 2305.18290, eq. 4: −p log σ(z) − (1 − p) log σ(−z) is least where σ(z) = p, that is,
    # β(g_i − g_j) = r_i − r_j
    "dpo": like_dpo(name="dpo"),
    # of one token each, with a reference that stays: the same function, or the same zero gradient
    "tr-dpo": like_dpo(name="tr-dpo"),
    "ln-dpo": like_dpo(name="ln-dpo"),
    "ld-dpo": like_dpo(name="ld-dpo"),
    "length-dpo": like_dpo(name="length-dpo"),
    # both answers have the prompt's own KL, so their difference is 0
    "tdpo1": like_dpo(name="tdpo1"),
    # a pair weighs the same either way round, so p σ(−z) = (1 − p) σ(z) stays its optimum
    "wpo": like_dpo(name="wpo"),
    # over all ordered pairs the mean of h is 0, and β its first value
    "beta-dpo": like_dpo(name="beta-dpo", keep=1.0),
    # 10 % of the labels are flipped, and the loss knows
    "robust-dpo": (
        {"name": "robust-dpo", "beta": BETA, "epsilon": 0.1},
        SPECIFIED,
        flipped(LABELS, 0.1),
        DPO_OPTIMUM,
    ),
    "f-dpo": of_divergence("reverse-kl", torch.exp, 50.0),
    # −1/u = s
    "f-dpo, forward-kl": of_divergence("forward-kl", lambda s: -1 / s, 0.0),
    # log(2u/(1 + u)) = s
    "f-dpo, js": of_divergence("js", lambda s: s.exp() / (2 - s.exp()), math.log(2)),
    # (1 − u^−α)/α = s, α = ½
    "f-dpo, alpha": of_divergence("alpha", lambda s: (1 - s / 2) ** -2, 2.0),
    "ipo": ({"name": "ipo", "tau": BETA}, SPECIFIED, LABELS, ipo_optimum(SPECIFIED, BETA)),
    "sppo": ({"name": "sppo", "eta": 3.0}, SPECIFIED, LABELS, sppo_optimum(SPECIFIED, 3.0)),
    # By answer: −P log σ(x) − ½ log σ(−x), x = βg, is least where Pσ(−x) = ½σ(x): e^x = 2P.
    # At β = 1 and a uniform reference Σ π_ref 2P = 1: it can be had exactly
    "nca": ({"name": "nca", "beta": 1.0}, EVEN, LABELS, EVEN.win_rate * 2 / 5),
    # By answer: −P log σ(x − δ) − (1 − P) log σ(δ − x) is least at x = δ + log(P/(1 − P)). The
    # logits of P are symmetric about 0 here, so δ is the mean of these x, whatever it is
    "bco": (
        {"name": "bco", "beta": BETA},
        SPECIFIED,
        LABELS,
        SPECIFIED.tilted(SPECIFIED.win_rate.logit() / BETA),
    ),
    # dpo under a uniform reference
    "cpo": ({"name": "cpo", "beta": BETA, "nll": 0.0}, SPECIFIED, LABELS, EVEN.tilted(2 * REWARDS)),
    # the likelihood of the chosen answers: how often each is chosen
    "nll": ({"name": "nll"}, SPECIFIED, LABELS, SPECIFIED.win_rate / 2.5),
    "orpo": ({"name": "orpo", "odds": 0.0}, SPECIFIED, LABELS, SPECIFIED.win_rate / 2.5),
    # Losses of the margin alone, by the best margin of a pair of two levels.
    # cdpo believes a label with 1 − ε: σ(z) = (1 − ε)p + ε(1 − p)
    "cdpo": of_levels(
        math.log((0.9 * P + 0.1 * (1 - P)) / (0.1 * P + 0.9 * (1 - P))) / BETA,
        name="cdpo",
        beta=BETA,
    ),
    # with s = σ(z): −H(s) − (2p − 1)s log((1 − ε)/ε) and a constant: z = (2p − 1) log((1 − ε)/ε)
    "exo": of_levels((2 * P - 1) * math.log(0.9 / 0.1) / BETA, name="exo", beta=BETA, epsilon=0.1),
    # no reference: the margin is that of the log-probs
    "simpo": (
        {"name": "simpo", "beta": 2.0, "gamma_ratio": 0.5},
        LEVELS,
        LEVELS.labels,
        World(LEVELS.rewards, UNIFORM).tilted(simpo_margin(1.0) / 2 * GOOD),
    ),
}
NOT_ON_PAPER = {
    "apo-zero": "linear in σ(βg) by answer: it falls for ever",
    "apo-down": "linear in σ(βg) by answer: it falls for ever",
    "kto": "linear in σ(βg) by answer: it falls for ever; z₀ needs several prompts",
    "hinge": "see the test of its kink",
    "slic": "a hinge with a likelihood: a corner that depends on both",
    "discopop": "not convex, and its gradient at z = 0 points the wrong way",
    "aot": "sorts margins: a step's pairs, not a population's weights",
    "aot-unpaired": "sorts log-ratios: a step's pairs, not a population's weights",
    "tdpo": "the stop-gradient leaves a force on the KL that is no function's gradient",
    "cal-dpo": "a sum of a logistic loss and squares: a root of no closed form",
    "dpo-nll": "a sum of two losses with two optima",
    "reward": "no policy; see its own test",
    "classifier": "no policy; cross-entropy on labels",
    "sft": "no pairs; see its own test",
    "pretrain": "as sft",
}


def test_every_method_is_solved_or_says_why_not() -> None:
    solved = {name.split(",")[0] for name in OPTIMA}
    given = {name for name, one in METHODS.items() if one.data != "prompt"}
    assert solved | set(NOT_ON_PAPER) | {"spin"} == given, "what samples for itself is elsewhere"
    assert not solved & set(NOT_ON_PAPER)


@pytest.mark.parametrize("case", OPTIMA.values(), ids=OPTIMA.keys())
def test_each_method_reaches_its_optimum(case: Case) -> None:
    given, world, labels, expected = case
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-9)
    assert apart(expected, world.reference) > 0.02, "the optimum is not where training starts"
    assert apart(trained(world, labels, **given), expected) < 1e-3


def test_the_optima_that_were_given() -> None:
    expected = wide([0.41754, 0.30721, 0.22603, 0.04158, 0.00765])
    assert DPO_OPTIMUM.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert reward(DPO_OPTIMUM) == pytest.approx(0.542707, abs=1e-6)
    assert divergence(DPO_OPTIMUM) == pytest.approx(0.514619, abs=1e-6)
    expected = wide([0.14822, 0.24238, 0.38924, 0.15627, 0.06389])
    assert OPTIMA["ipo"][3].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def reward(policy: Tensor) -> float:
    return float((policy * REWARDS).sum())


def divergence(policy: Tensor) -> float:
    """KL(π ‖ π_ref)."""
    return float((policy * (policy / UNEVEN).log()).sum())


def test_flips_that_the_loss_does_not_know_of_move_dpo() -> None:
    # and cdpo at the flips' own rate is moved again: it expects wrong labels and smooths them twice
    found = trained(SPECIFIED, flipped(LABELS, 0.1), name="dpo", beta=BETA)
    assert apart(found, DPO_OPTIMUM) > 0.05
    twice = trained(SPECIFIED, flipped(LABELS, 0.1), name="cdpo", beta=BETA, epsilon=0.1)
    assert divergence(twice) < divergence(found) < divergence(DPO_OPTIMUM)


def test_cdpo_on_true_labels_is_dpo_on_flipped_ones() -> None:
    # the same function of z: −((1 − ε)p + ε(1 − p)) log σ(z) − …
    one = trained(SPECIFIED, LABELS, name="cdpo", beta=BETA, epsilon=0.2)
    other = trained(SPECIFIED, flipped(LABELS, 0.2), name="dpo", beta=BETA)
    assert apart(one, other) < 1e-6


def test_the_hinge_ends_at_its_kink() -> None:
    # p max(0, 1 − z) + (1 − p) max(0, 1 + z): its slope is 1 − 2p up to z = 1 and 1 − p after, so
    # the good answers end β h = 1 above the bad ones, and from there every way costs
    method, params = find({"name": "hinge", "beta": BETA})

    def value(exponent: Tensor) -> float:
        batch = population(LEVELS.reference.log() + exponent, LEVELS)
        out = method.loss(batch, params, context_of(method, params, batch))
        return float((LEVELS.labels * out.loss_B).sum())

    best = value(GOOD / BETA)
    ways = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert all(value(GOOD / BETA + size * way) > best for way in ways for size in (0.01, 0.3))


def test_a_reward_model_finds_the_rewards_up_to_a_constant() -> None:
    method, params = find({"name": "reward", "center": 0.0})

    def loss(scores: Tensor) -> Tensor:
        batch = population(scores, SPECIFIED)
        return (LABELS * method.loss(batch, params, context_of(method, params, batch)).loss_B).sum()

    scores = minimise(loss, torch.zeros(5, dtype=torch.float64))
    assert (scores - scores.mean()).tolist() == pytest.approx(REWARDS.tolist(), abs=1e-6)


def test_imitation_ends_at_the_demonstrations_frequencies() -> None:
    method, params = find({"name": "sft"})
    share = wide([0.5, 0.1, 0.1, 0.1, 0.2])

    def loss(logits: Tensor) -> Tensor:
        logp = logits.log_softmax(0)
        batch = Demonstrations(Side(logp, None, torch.ones(5)))
        return (share * method.loss(batch, params, context_of(method, params, batch)).loss_B).sum()

    assert apart(minimise(loss, UNEVEN.log()).softmax(0), share) < 1e-6


@pytest.mark.parametrize("beta", [0.2, 0.5, 1.0, 3.0])
def test_the_frontier_of_reward_and_kl_has_slope_beta(beta: float) -> None:
    # dE[r]/dβ = −Var(r)/β² and dKL/dβ = −Var(r)/β³ along π_ref e^{r/β}/Z. Between 0.99 β and
    # 1.01 β the chord differs from the tangent by a ten-thousandth.
    near, far = (trained(SPECIFIED, LABELS, name="dpo", beta=b) for b in (1.01 * beta, 0.99 * beta))
    assert divergence(far) > divergence(near), "KL grows with 1/β"
    slope = (reward(far) - reward(near)) / (divergence(far) - divergence(near))
    assert slope == pytest.approx(beta, rel=1e-3)


def test_nothing_lies_above_the_frontier() -> None:
    # E[r] − β KL ≤ β log Z, with equality for dpo's policy alone (Gibbs)
    best = BETA * math.log(float((UNEVEN * (REWARDS / BETA).exp()).sum()))
    reached = trained(SPECIFIED, LABELS, name="dpo", beta=BETA)
    assert reward(reached) - BETA * divergence(reached) == pytest.approx(best, abs=1e-9)
    for given, world, labels, _ in OPTIMA.values():
        if world is SPECIFIED:
            policy = trained(world, labels, **given)
            assert reward(policy) - BETA * divergence(policy) <= best + 1e-9


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({"name": "dpo", "beta": BETA}, 0.0),
        ({"name": "robust-dpo", "beta": BETA, "epsilon": 0.1}, 0.1),
    ],
    ids=["dpo", "robust-dpo, flipped"],
)
def test_with_sampled_pairs_the_error_falls_with_the_root_of_their_number(
    given: dict[str, Any], share: float
) -> None:
    # sixteen times the pairs, a quarter of the error
    generator = torch.Generator().manual_seed(0)
    method, params = find(given)
    worlds = 48
    ordered = list(zip(FIRST.tolist(), SECOND.tolist(), strict=True))
    upper = [ordered.index((i, j)) for i, j in ordered if i < j]
    turned = [ordered.index((j, i)) for i, j in ordered if i < j]

    def error(pairs: int) -> float:
        rate = flipped(LABELS, share)[upper].expand(worlds, 10)
        count = torch.full((worlds, 10), pairs / 10, dtype=torch.float64)
        wins = torch.binomial(count, rate, generator=generator)
        weight = torch.zeros(worlds, 20, dtype=torch.float64)
        weight[:, upper], weight[:, turned] = wins, count - wins

        def loss(logits: Tensor) -> Tensor:
            batch = population(logits, SPECIFIED)
            value = method.loss(batch, params, context_of(method, params, batch)).loss_B
            return (weight.flatten() * value).sum() / pairs

        start = SPECIFIED.reference.log().repeat(worlds, 1)
        return apart(minimise(loss, start).softmax(-1), DPO_OPTIMUM)

    few, many = error(1_000), error(16_000)
    assert few < 0.2
    assert 3.0 < few / many < 5.3
