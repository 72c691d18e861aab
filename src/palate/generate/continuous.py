"""The fast engine: each distinct prompt is computed once, and the batch stays full.

Answers to one prompt share its keys and values. As soon as an answer ends, another takes its
row, and the forward that computes the answers' next tokens computes the next prompts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from palate.generate.draw import Mixture, Sample, Sampling, pick, views
from palate.generate.engine import Engine
from palate.generate.padded import most_positions
from palate.generate.schedule import Answer, Key, Schedule
from palate.model.policy import Policy

# Prompt tokens that come in with one forward.
PREFILL = 4096


def continuous(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    n: int,
    batch_size: int,
    advance: Callable[[int], None],
    mixture: Mixture | None,
) -> list[list[Sample]]:
    """`n` answers to each prompt, in the prompts' order; see `palate.generate.sampling.sample`."""
    jobs: dict[tuple[int, ...], list[Key]] = {}
    for i in sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i)):
        jobs.setdefault(tuple(prompts[i]), []).extend((i, k) for k in range(n))
    schedule = Schedule(list(jobs.items()), batch_size, PREFILL)
    found: list[list[Sample | None]] = [[None] * n for _ in prompts]
    try:
        engine = Engine(policy, batch_size, _drawing(policy, sampling, mixture), views(mixture))
        for answer, ended in _ended(policy, engine, schedule, sampling, end_ids, advance):
            i, k = answer.key
            found[i][k] = Sample(tuple(answer.ids), ended, tuple(answer.logps))
    finally:
        policy.attend(policy.plain_attention)  # others call the model without a step
    return [[one for one in row if one is not None] for row in found]


def _drawing(
    policy: Policy, sampling: Sampling, mixture: Mixture | None
) -> Callable[[Sequence[Answer[Key]], list[Tensor]], None]:
    """Every answer's token drawn in one way."""
    weight = mixture.weight if mixture else 0.0

    def draw(answers: Sequence[Answer[Key]], logits: list[Tensor]) -> None:
        uniforms = [answer.uniforms[len(answer.ids)] for answer in answers]
        uniform_B = torch.tensor(uniforms, dtype=torch.float64, device=policy.device)
        token_B, logp_B = pick(logits, uniform_B, sampling, weight)
        drawn = zip(answers, token_B.tolist(), logp_B.tolist(), strict=True)
        for answer, token, logp in drawn:
            answer.ids.append(token)
            answer.logps.append(logp)

    return draw


def _ended(
    policy: Policy,
    engine: Engine[Key],
    schedule: Schedule[Key],
    sampling: Sampling,
    end_ids: Sequence[int],
    advance: Callable[[int], None],
) -> Iterator[tuple[Answer[Key], bool]]:
    """Run the schedule to its end: the answers as they come, and whether by an end token."""
    ends, longest = frozenset(end_ids), most_positions(policy)
    while engine.step(schedule, lambda key: sampling.uniforms(*key)):
        done = [_over(answer, ends, longest, sampling) for answer in schedule.answers]
        for answer, over in zip(schedule.answers, done, strict=True):
            if over:
                yield answer, answer.ids[-1] in ends
        if any(done):
            engine.release(schedule, done)
            advance(sum(done))


def _over(answer: Answer[Key], ends: frozenset[int], longest: int, sampling: Sampling) -> bool:
    length = len(answer.ids)
    return (
        answer.ids[-1] in ends
        or length == sampling.max_new_tokens
        or len(answer.prompt.ids) + length >= longest
    )
