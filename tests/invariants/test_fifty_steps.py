"""Fifty optimizer steps on the tree and on padded rows: the same losses in fp32."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests.families import VOCABULARY, random_model

from palate.config import AdapterConfig, OptimConfig
from palate.losses.registry import METHODS
from palate.model.adapters import adapters_off, attach, trainable
from palate.model.policy import Layout, Policy
from palate.model.score import score
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, cut
from palate.tokens.tree import Branch
from palate.train.optimizer import clip_gradients, lr_at, make_adamw, set_lr
from palate.train.reference import ReferenceLogps
from palate.train.step import Packed, compute_step, pack

STEPS, BATCH = 50, 4
DPO = METHODS["dpo"]


def pairs(count: int = 16) -> list[Rendered]:
    """Pairs under one system prompt, two to each user turn, answers of different lengths."""
    draw = random.Random(0)

    def tokens(low: int, high: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(draw.randint(low, high))]

    system, found, turn = tokens(12, 12), [], tokens(5, 5)
    for index in range(count):
        if index % 2 == 0:
            turn = tokens(3, 9)
        prompt = [*system, *turn]
        branches = []
        for _ in range(2):
            answer = tokens(2, 8)
            mask = [False] * len(prompt) + [True] * len(answer)
            branches.append(Branch([*prompt, *answer], mask))
        found.append(Rendered(str(index), len(prompt), tuple(branches)))
    return found


def losses(family: str, kind: str, layout: Layout, lr: float) -> list[float]:
    """The loss of every step of a run as the loop does it."""
    model: Any = random_model(family, 0)
    adapted = attach(model, AdapterConfig(kind=kind, rank=4), seed=1)  # type: ignore[arg-type]
    policy = Policy(model, layout=layout)
    examples, share = pairs(), layout == "tree"
    with adapters_off(adapted):
        reference = ReferenceLogps(score(policy, examples, budget=200))
    weights, optim = trainable(model), OptimConfig(weight_decay=0.1)
    optimizer = make_adamw(weights, optim, lr)
    sampler = Sampler(len(examples), BATCH, seed=0)
    found = []
    for step in range(STEPS):
        rows = sampler.batch(step)
        cuts = cut(examples, rows, 60 if share else 150, share=share)
        batches = pack(examples, rows, cuts, share=share, device=policy.device)
        set_lr(optimizer, lr_at(step, STEPS, optim, lr))
        optimizer.zero_grad(set_to_none=True)
        result = compute_step(policy, DPO, DPO.params(), Packed(batches, reference), {})
        clip_gradients(weights.values(), optim.clip)
        optimizer.step()
        found.append(float(result.loss))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lr"), [("lora", 5e-3), ("full", 5e-4)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_losses_agree_at_each_of_fifty_steps(family: str, kind: str, lr: float) -> None:
    """To 1e-4, while the loss falls: rates are ten times the defaults for a small model."""
    tree, plain = (losses(family, kind, layout, lr) for layout in ("tree", "plain"))
    assert tree[0] == pytest.approx(0.6931471805599453, abs=1e-6)
    assert sum(tree[-4:]) / 4 < 0.5, "nothing was learned, so nothing was compared"
    assert max(abs(a - b) for a, b in zip(tree, plain, strict=True)) <= 1e-4
    assert torch.tensor(tree).isfinite().all()
