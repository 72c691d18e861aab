"""Paired losses on pairs that the policy samples itself: online-dpo and spin.

Any paired loss does the same where the recipe has a `rollout`; these have names of their own.
"""

from __future__ import annotations

from dataclasses import replace

from palate.losses.dpo import METHOD as DPO
from palate.losses.method import Online

ONLINE_DPO = replace(
    DPO,
    name="online-dpo",
    title="DPO on the policy's own samples",
    formula="−log σ(β(a − b)), both answers sampled from π, a judge says which is better",
    paper="Guo et al. 2024, arXiv 2402.04792, algorithm 1",
    online=Online(least=2),
    when="A judge is at hand, and the answers of the logs are not what the model writes.",
    defaults="β = 0.1; of more than two answers the best and the worst.",
    peers="TRL's OnlineDPOTrainer draws two answers, and takes a fixed amount off for a missing "
    "end; here rollout.unfinished_reward may.",
)
SPIN = replace(
    DPO,
    name="spin",
    title="Self-play fine-tuning",
    formula="−log σ(β(a − b)), a of the demonstration, b of an own sample, π_ref the last iterate",
    paper="Chen et al. 2024, arXiv 2401.01335, eq. 4.7",
    online=Online(judge="none", against="demonstration", fresh=1),
    when="Demonstrations and no preferences: more is learned from them than sft does.",
    defaults="β = 0.1; a fresh reference with every rollout, so let one span many prompts and "
    "steps: in the first step of each all margins are 0, and β does nothing.",
    peers="The authors' code trains a whole epoch for each iterate.",
)
