"""The reward model of RLHF: Bradley-Terry on a scalar head."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import LN2
from palate.losses.method import Method
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class Reward:
    """Parameters of `reward`."""

    margin: float = param(0.0, "m: by how much the chosen answer should be ahead.", at_least=0.0)
    center: float = param(
        0.01, "c: weight of (r_w + r_l)², which keeps rewards around 0.", at_least=0.0
    )


def reward(pairs: Pairs, params: Reward, context: Context) -> LossOutput:
    """−log σ(r_w − r_l − m) + c(r_w + r_l)²."""
    chosen, rejected = pairs.chosen.reward_B, pairs.rejected.reward_B
    loss_B = -logsigmoid(chosen - rejected - params.margin)
    loss_B = loss_B + params.center * (chosen + rejected) ** 2
    w, l = chosen.detach(), rejected.detach()  # noqa: E741 the papers' letters
    metrics = {
        "margin": w - l,
        "accuracy": (w > l).to(w.dtype) + 0.5 * (w == l).to(w.dtype),
        "chosen_reward": w,
        "rejected_reward": l,
    }
    return LossOutput(loss_B, metrics)


METHOD = Method(
    name="reward",
    title="Reward model",
    formula="−log σ(r_w − r_l − m) + c(r_w + r_l)²",
    paper="Ouyang et al. 2022, arXiv 2203.02155, eq. 1; margin: arXiv 2307.09288; centring: "
    "arXiv 2312.09244",
    shape="pair",
    params=Reward,
    loss=reward,
    reference=False,
    head="scalar",
    initial_loss=LN2,
    initial=lambda params: math.log1p(math.exp(params.margin)),
    when="A model that scores answers: for best-of-n, filtering, GRPO and PPO.",
    defaults="c = 0.01 as in the paper on centring; the head begins at 0, so the loss at ln 2.",
    peers="TRL's RewardTrainer, whose head begins at random.",
)
