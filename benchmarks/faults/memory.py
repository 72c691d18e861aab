"""Memory runs out half-way through the backward pass of a random micro-batch."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tests.train.tasks import make_task
from tests.train.test_retry import WORDS, one_step

from palate.train.packing import micro_batches

FAULT = "out of memory in a random micro-batch"
HOLDS = (
    "the step begins again with smaller micro-batches: the gradient is that of an undisturbed step "
    "to rounding (1e-5 of each weight's largest), and bit for bit that of a step which began so"
)
TRIALS = 40


def trial(number: int, folder: Path) -> dict[str, object]:
    """The kind of run, its batch, the micro-batch and the words of the error, by the number.

    Of the micro-batches that can be smaller: one example alone is refused, in one line.
    """
    chance = random.Random(number)
    settings = {
        "kind": chance.choice(["lora", "full"]),
        "batch_size": chance.choice([4, 8, 10]),
        "tokens_per_microbatch": chance.choice([40, 50, 60, 80]),
    }
    calm, shaken = (make_task(folder / name, **settings) for name in ("calm", "shaken"))
    tokens = calm.budget.at(0)
    parts = micro_batches(calm.policy, calm.ranks, calm.train, calm.sampler.batch(0), tokens)
    at = chance.choice([n for n, part in enumerate(parts, 1) if len(part.rows) > 1])
    grads, result, _ = one_step(calm)
    again, other, notes = one_step(shaken, at, chance.choice(WORDS))
    assert len(notes) == 1, notes
    assert "out of memory in step 1" in notes[0], notes
    assert grads.keys() == again.keys()
    worst = 0.0
    for name, grad in grads.items():
        largest = float(grad.abs().max())
        apart = float((grad - again[name]).abs().max())
        assert apart <= 1e-5 * largest, f"{name}: {apart} apart, the largest is {largest}"
        worst = max(worst, apart / largest if largest else 0.0)
    assert abs(float(result.loss) - float(other.loss)) <= 1e-6 * abs(float(result.loss))
    (low,) = shaken.budget.plan.lowered
    lower = {**settings, "tokens_per_microbatch": low.tokens_per_microbatch}
    exact, _, _ = one_step(make_task(folder / "lower", **lower))
    assert all(torch.equal(exact[name], again[name]) for name in exact), "other bits"
    return {**settings, "failed": f"{at} of {len(parts)}", "apart": worst}
