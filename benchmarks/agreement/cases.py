"""Which of our methods is which of TRL's, and where the definitions differ, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Which of TRL's trainers computes it.
Trainer = Literal["dpo", "kto", "reward", "cpo", "orpo"]
MICRO = 4
FAR = 500.0  # nats: what one wrong pair of long answers can have


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    - `ours` is a recipe's `method`; `theirs` the options of TRL's config for `trainer`.
    - `group`: how many pairs TRL sees at once; 0 means all. Ours always sees all.
    - `differs` is why the definitions differ; empty where both must agree.
    - `statistic` replaces our step statistic, where TRL has a constant in its place.
    - `prompt`: tokens of the prompt. `double`: whether TRL's code takes float64.
    - `far`: where not 0, two pairs with log-ratios of ±this are compared, not random ones.
    """

    name: str
    theirs_name: str
    ours: Mapping[str, Any] | list[dict[str, Any]]
    theirs: Mapping[str, Any]
    trainer: Trainer = "dpo"
    group: int = 1
    differs: str = ""
    statistic: Mapping[str, float] = field(default_factory=dict)
    prompt: int = 3
    double: bool = True
    far: float = 0.0


def _dpo(name: str, loss_type: str, ours: dict[str, Any] | None = None, **more: Any) -> Case:
    given = {"name": name, "beta": 0.3, **(ours or {})}
    theirs = {"loss_type": loss_type, "beta": 0.3, **more.pop("theirs", {})}
    return Case(name, loss_type, given, theirs, **more)


def _divergence(divergence: str, their_name: str, **more: Any) -> Case:
    options = {"loss_type": "sigmoid", "beta": 0.3, "f_divergence_type": their_name}
    options |= more.pop("theirs", {})
    ours = {"name": "f-dpo", "beta": 0.3, "divergence": divergence, **more.pop("ours", {})}
    return Case(f"f-dpo, {divergence}", their_name, ours, options, **more)


CASES = [
    _dpo("dpo", "sigmoid"),
    _dpo(
        "cdpo",
        "sigmoid",
        {"epsilon": 0.1},
        theirs={"label_smoothing": 0.1},
        differs="TRL's sigmoid takes label_smoothing and ignores it: what it trains is dpo.",
    ),
    _dpo("robust-dpo", "robust", {"epsilon": 0.1}, theirs={"label_smoothing": 0.1}),
    Case(
        "ipo, tokens: mean",
        "ipo",
        {"name": "ipo", "tau": 0.3, "tokens": "mean"},
        {"loss_type": "ipo", "beta": 0.3},
    ),
    Case(
        "ipo",
        "ipo",
        {"name": "ipo", "tau": 0.3},
        {"loss_type": "ipo", "beta": 0.3},
        differs="By default ours sums log-ratios over tokens, as in the paper; TRL takes means.",
    ),
    _dpo("hinge", "hinge"),
    Case(
        "slic, nll: 0",
        "cpo: hinge",
        {"name": "slic", "nll": 0.0},
        {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.0},
        trainer="cpo",
    ),
    Case(
        "slic",
        "cpo: hinge",
        {"name": "slic", "nll": 0.1},
        {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.1},
        trainer="cpo",
        differs="The likelihood is a sum over tokens in ours, as in the paper, a mean in TRL's.",
    ),
    Case(
        "dpo-nll",
        "sigmoid + sft",
        {"name": "dpo-nll", "beta": 0.3, "alpha": 0.7},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7], "beta": 0.3},
    ),
    Case(
        "dpo-nll, 4 pairs at once",
        "sigmoid + sft",
        {"name": "dpo-nll", "beta": 0.3, "alpha": 0.7},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7], "beta": 0.3},
        group=MICRO,
        differs="TRL's likelihood is the mean over the tokens of a micro-batch, where long answers "
        "weigh more; ours is by answer, as in the paper.",
    ),
    Case("nll", "sft", {"name": "nll"}, {"loss_type": "sft"}),
    Case("sft", "sft", {"name": "sft"}, {"loss_type": "sft"}, group=0),
    _dpo("ln-dpo", "sigmoid_norm"),
    Case(
        "ld-dpo",
        "sigmoid, ld_alpha",
        {"name": "ld-dpo", "beta": 0.3, "alpha": 0.4},
        {"loss_type": "sigmoid", "beta": 0.3, "ld_alpha": 0.4},
    ),
    _dpo("apo-zero", "apo_zero"),
    _dpo("apo-down", "apo_down"),
    _dpo("aot", "aot", {"epsilon": 0.1}, theirs={"label_smoothing": 0.1}, group=0),
    _dpo(
        "aot-unpaired", "aot_unpaired", {"epsilon": 0.1}, theirs={"label_smoothing": 0.1}, group=0
    ),
    Case(
        "aot, 4 pairs at once",
        "aot",
        {"name": "aot", "beta": 0.3},
        {"loss_type": "aot", "beta": 0.3},
        group=MICRO,
        differs="TRL sorts within a micro-batch of one device; ours over the optimizer step.",
    ),
    _dpo("nca", "nca_pair"),
    _dpo("bco", "bco_pair", statistic={"delta": 0.0}),
    Case(
        "bco, with its δ",
        "bco_pair",
        {"name": "bco", "beta": 0.3},
        {"loss_type": "bco_pair", "beta": 0.3},
        differs="TRL's form for pairs has no δ; ours is the running mean reward, as in the paper.",
    ),
    _dpo("exo", "exo_pair", {"epsilon": 1e-3}, theirs={"label_smoothing": 1e-3}),
    _dpo("discopop", "discopop"),
    _dpo(
        "discopop, log-ratios of ±500",
        "discopop",
        {"name": "discopop"},
        double=False,
        far=FAR,
        differs="Where z is very negative TRL multiplies an infinite e^−z by 0: NaN. Ours is the "
        "limit, the logistic loss.",
    ),
    _divergence("reverse-kl", "reverse_kl"),
    _divergence("forward-kl", "forward_kl"),
    _divergence("js", "js_divergence"),
    _divergence(
        "alpha",
        "alpha_divergence",
        ours={"alpha": 0.3},
        theirs={"f_alpha_divergence_coef": 0.7},
        double=False,
    ),
    Case(
        "f-dpo, forward-kl, log-ratios of ±500",
        "forward_kl",
        {"name": "f-dpo", "beta": 0.3, "divergence": "forward-kl"},
        {"loss_type": "sigmoid", "beta": 0.3, "f_divergence_type": "forward_kl"},
        double=False,
        far=FAR,
        differs="TRL's e^x has no bound and is infinite. Ours has a declared clamp, at e^30.",
    ),
    Case(
        "wpo",
        "sigmoid, use_weighting",
        {"name": "wpo", "beta": 0.3},
        {"loss_type": "sigmoid", "beta": 0.3, "use_weighting": True},
    ),
    Case(
        "sppo",
        "sppo_hard",
        {"name": "sppo", "eta": 4.0},
        {"loss_type": "sppo_hard", "beta": 0.25},
    ),
    Case(
        "cpo",
        "cpo: sigmoid",
        {"name": "cpo", "beta": 0.3},
        {"loss_type": "sigmoid", "beta": 0.3, "cpo_alpha": 1.0},
        trainer="cpo",
    ),
    Case(
        "simpo",
        "cpo: simpo",
        {"name": "simpo", "beta": 2.0, "gamma_ratio": 0.5},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
        trainer="cpo",
    ),
    Case(
        "orpo, prompts of one token",
        "orpo",
        {"name": "orpo", "odds": 0.3},
        {"beta": 0.3},
        trainer="orpo",
        prompt=1,
        double=False,
    ),
    Case(
        "orpo",
        "orpo",
        {"name": "orpo", "odds": 0.3},
        {"beta": 0.3},
        trainer="orpo",
        double=False,
        differs="TRL's likelihood is over prompt and answer, ours over the answer.",
    ),
    Case(
        "kto",
        "kto",
        {"name": "kto", "beta": 0.3, "desirable": 1.2, "undesirable": 0.7},
        {"beta": 0.3, "desirable_weight": 1.2, "undesirable_weight": 0.7},
        trainer="kto",
        group=0,
    ),
    Case(
        "kto, 4 answers at once",
        "kto",
        {"name": "kto", "beta": 0.3, "desirable": 1.0, "undesirable": 1.0},
        {"beta": 0.3},
        trainer="kto",
        group=MICRO,
        differs="TRL's z₀ is the mean over a micro-batch, whose prompts and answers it shifts by "
        "one; ours is over the optimizer step, of mismatches from a derangement of the data.",
    ),
    Case(
        "reward",
        "reward",
        {"name": "reward", "center": 0.02},
        {"center_rewards_coefficient": 0.02},
        trainer="reward",
    ),
]
# Ours that TRL 1.16 has nothing to compare with.
ABSENT = {
    "length-dpo": "not in TRL",
    "tdpo": "not in TRL",
    "tdpo1": "not in TRL",
    "beta-dpo": "not in TRL",
    "cal-dpo": "not in TRL",
    "tr-dpo": "its loss is dpo's; TRL's sync_ref_model moves the weights between steps",
    "pretrain": "sft's loss on other data",
    "classifier": "not in TRL",
}
