"""Random forests, and the plain computation that a tree must equal: nothing of ours in it."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from palate.tokens.tree import Branch

LETTERS = 40
"""So many different tokens are drawn: few enough that segments begin alike by chance."""


def random_branches(seed: int, depth: int = 3, fan: int = 3, longest: int = 14) -> list[Branch]:
    """One to three trees of random depth, fan and lengths, with random masks, shuffled.

    Some branches are the beginning of another, some come twice (with another mask), some have
    no supervised token; at least one token of the batch is supervised.
    """
    draw = random.Random(seed)
    paths: list[list[int]] = []

    def grow(path: list[int], left: int) -> None:
        path = [*path, *(draw.randrange(LETTERS) for _ in range(draw.randint(1, longest)))]
        if left == 0 or draw.random() < 0.15:
            paths.append(path)
            return
        if draw.random() < 0.15:
            paths.append(path)
        for _ in range(draw.randint(1, fan)):
            grow(path, left - 1)

    for _ in range(draw.randint(1, 3)):
        grow([], draw.randint(0, depth))
    if draw.random() < 0.3:
        paths.append(list(draw.choice(paths)))
    draw.shuffle(paths)
    branches = [Branch(path, _mask(len(path), draw)) for path in paths]
    if not any(any(branch.mask) for branch in branches):
        ids = [*branches[0].ids, 0]
        branches[0] = Branch(ids, [False] * (len(ids) - 1) + [True])
    return branches


def _mask(length: int, draw: random.Random) -> list[bool]:
    """An answer at the end, turns anywhere, every token, or none."""
    kind = draw.random()
    if kind < 0.5:
        begin = draw.randint(1, length)
        mask = [at >= begin for at in range(length)]
    elif kind < 0.9:
        share = draw.random()
        mask = [draw.random() < share for _ in range(length)]
    else:
        mask = [kind < 0.95] * length
    return [False, *mask[1:]]


def plain_logps(model: Any, branches: list[Branch]) -> Tensor:
    """log π of every supervised token, in branch order and then reading order.

    One padded batch through the model's own forward, with transformers' own attention.
    """
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    longest = max(len(b.ids) for b in branches)
    ids = torch.zeros(len(branches), longest, dtype=torch.long)
    valid = torch.zeros(len(branches), longest, dtype=torch.long)
    for row, b in enumerate(branches):
        ids[row, : len(b.ids)] = torch.tensor(b.ids)
        valid[row, : len(b.ids)] = 1
    logits = model(input_ids=ids, attention_mask=valid, use_cache=False).logits
    at = [(row, t) for row, b in enumerate(branches) for t, on in enumerate(b.mask) if on]
    row, t = torch.tensor(at).T
    return logits.float().log_softmax(-1)[row, t - 1, ids[row, t]]


def branch_weights(branches: list[Branch]) -> Tensor:
    """A weight for each supervised token that tells all branches apart.

    With it, a sum of log-probs has the same outward gradient whoever computes it.
    """
    counts = torch.tensor([sum(b.mask) for b in branches])
    signs = torch.linspace(-1.0, 1.5, len(branches))
    return signs.repeat_interleave(counts)


def take_gradients(model: Any) -> dict[str, Tensor]:
    """The gradients, which are cleared."""
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found
