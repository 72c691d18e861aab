"""Log-probs of many examples without gradient: the reference pass, and KL on sampled text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from palate.model.policy import Policy
from palate.tokens.render import Rendered
from palate.tokens.sampler import cut
from palate.tokens.tree import build_forest


@torch.no_grad()
def score_rows(
    policy: Policy, examples: Sequence[Rendered], rows: Sequence[int]
) -> dict[int, Tensor]:
    """One forest: log π of the supervised tokens of each row, fp32 on the CPU.

    Tokens are in branch order, then in reading order.
    """
    branches = [branch for row in rows for branch in examples[row].branches]
    forest = build_forest(branches, share=policy.layout == "tree").to(policy.device)
    values = policy(forest).token_logps_N.float().cpu()
    sizes = [supervised_tokens(examples[row]) for row in rows]
    return dict(zip(rows, (part.clone() for part in values.split(sizes)), strict=True))


@torch.no_grad()
def score_with_values(
    policy: Policy, examples: Sequence[Rendered], budget: int
) -> tuple[list[Tensor], list[Tensor]]:
    """`score`, and what the policy's value head says before each token; fp32 on the CPU."""
    share = policy.layout == "tree"
    logps: dict[int, Tensor] = {}
    values: dict[int, Tensor] = {}
    for rows in cut(examples, range(len(examples)), budget, share=share):
        branches = [branch for row in rows for branch in examples[row].branches]
        found = policy(build_forest(branches, share=share).to(policy.device))
        assert found.values_N is not None, "the policy has a value head"
        sizes = [supervised_tokens(examples[row]) for row in rows]
        logps |= zip(rows, found.token_logps_N.float().cpu().split(sizes), strict=True)
        values |= zip(rows, found.values_N.float().cpu().split(sizes), strict=True)
    order = range(len(examples))
    return [logps[row].clone() for row in order], [values[row].clone() for row in order]


def score(
    policy: Policy,
    examples: Sequence[Rendered],
    budget: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Tensor]:
    """The same for all examples, in their order, at most `budget` tokens at once."""
    found: dict[int, Tensor] = {}
    for rows in cut(examples, range(len(examples)), budget, share=policy.layout == "tree"):
        found.update(score_rows(policy, examples, rows))
        advance(len(rows))
    return [found[row] for row in range(len(examples))]


def supervised_tokens(example: Rendered) -> int:
    """Tokens that are trained on, over all completions of an example."""
    return sum(sum(branch.mask) for branch in example.branches)
