"""Self-play preference optimization by reinforcement (Swamy et al. 2024, arXiv 2401.04056).

An answer's reward is the share of the policy's other samples that it beats: the policy plays
against itself, and the average of its iterates is a minimax winner.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.method import Method, Online
from palate.losses.policy_gradient import cap_param, clip_param, kl_param
from palate.losses.rloo import leave_one_out, rloo


@dataclass(frozen=True, slots=True)
class SPO:
    """Parameters of `spo`."""

    beta: float = kl_param(0.0, "as −β log π/π_ref of the answer in the reward")
    clip: float = clip_param(0.2, "either way")
    importance_cap: float = cap_param()


METHOD = Method(
    name="spo",
    title="Self-play preference optimization, by reinforcement",
    formula="−min(ρA, clip(ρ)A), A of r = share of the other samples that the answer beats",
    paper="Swamy et al. 2024, arXiv 2401.04056, algorithm 1",
    shape="sample",
    params=SPO,
    loss=rloo,
    credit=leave_one_out,
    reference_if=lambda params: params.beta > 0,
    online=Online(judge="preference", least=2),
    when="A judge of pairs whose preferences may go round in circles.",
    defaults="No KL, as in the paper; a judge is asked about every pair of a prompt's answers.",
    peers="The paper takes any reinforcement learner; here it is REINFORCE with leave-one-out.",
)
