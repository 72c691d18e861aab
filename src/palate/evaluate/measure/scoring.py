"""Log-probs of given texts under a model, branch by branch, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from palate.evaluate.measure.candidate import BUDGET, Candidate, Opened
from palate.evaluate.measure.kept import kept_rows
from palate.model.policy import Ask
from palate.records import digest
from palate.resumable import Row
from palate.tokens.render import Rendered
from palate.tokens.sampler import cut
from palate.tokens.tree import build_forest

GROUP = 64
"""Examples that are scored between two writes."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One completion: Σ log π over its tokens and Σ of the entropies before them, in nats."""

    logp: float
    entropy: float
    tokens: int


def scores_of(
    candidate: Candidate,
    opened: Opened,
    examples: Sequence[Rendered],
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[Scored]]:
    """For each example, its completions in order; from the cache where they are there."""

    def work(group: Sequence[Rendered], _: int) -> list[Row]:
        found = [{"branches": branches} for branches in _score(opened, group)]
        advance(len(group))
        return found

    settings = {
        "model": candidate.identity,
        "precision": opened.precision,
        "texts": digest([[list(b.ids) for b in one.branches] for one in examples])[:24],
        "masks": digest([[list(map(int, b.mask)) for b in one.branches] for one in examples])[:24],
    }
    rows = kept_rows("scores", settings, examples, GROUP, work, advance)
    return [[Scored(*branch) for branch in row["branches"]] for row in rows]


@torch.no_grad()
def _score(opened: Opened, examples: Sequence[Rendered]) -> list[list[list[float]]]:
    policy = opened.policy
    share = policy.layout == "tree"
    found: dict[int, list[list[float]]] = {}
    for rows in cut(examples, range(len(examples)), BUDGET, share=share):
        branches = [branch for row in rows for branch in examples[row].branches]
        forest = build_forest(branches, share=share).to(policy.device)
        out = policy(forest, Ask(statistics=("entropy",)))
        logps = out.sums_B().tolist()
        entropies = out.sums_B(out.statistics["entropy"]).tolist()
        counts = out.counts_B().tolist()
        told = iter(zip(logps, entropies, counts, strict=True))
        for row in rows:
            found[row] = [list(next(told)) for _ in examples[row].branches]
    return [found[row] for row in range(len(examples))]
