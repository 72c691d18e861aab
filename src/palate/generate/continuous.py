"""The fast engine: each distinct prompt is computed once, and the batch stays full.

Answers to one prompt share its keys and values. As soon as an answer ends, another takes its
row, and the forward that computes the answers' next tokens computes the next prompts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from palate.generate.decoder import Decoder, prepare
from palate.generate.draw import Mixture, Sample, Sampling, pick, views
from palate.generate.padded import most_positions
from palate.generate.plan import plan_incoming, plan_running
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
    prepare(policy)
    try:
        engine = _Engine(policy, sampling, batch_size, mixture)
        for answer, ended in _ended(policy, engine, schedule, sampling, end_ids, advance):
            i, k = answer.key
            found[i][k] = Sample(tuple(answer.ids), ended, tuple(answer.logps))
    finally:
        policy.attend(policy.plain_attention)  # others call the model without a step
    return [[one for one in row if one is not None] for row in found]


def _ended(
    policy: Policy,
    engine: _Engine,
    schedule: Schedule,
    sampling: Sampling,
    end_ids: Sequence[int],
    advance: Callable[[int], None],
) -> Iterator[tuple[Answer, bool]]:
    """Run the schedule to its end: the answers as they come, and whether by an end token."""
    ends, longest = frozenset(end_ids), most_positions(policy)
    while engine.step(schedule):
        done = [_over(answer, ends, longest, sampling) for answer in schedule.answers]
        for answer, over in zip(schedule.answers, done, strict=True):
            if over:
                yield answer, answer.ids[-1] in ends
        if any(done):
            engine.release(schedule, done)
            advance(sum(done))


def _over(answer: Answer, ends: frozenset[int], longest: int, sampling: Sampling) -> bool:
    length = len(answer.ids)
    return (
        answer.ids[-1] in ends
        or length == sampling.max_new_tokens
        or len(answer.prompt.ids) + length >= longest
    )


class _Engine:
    """One token for every answer of a schedule, by one forward of each view of the weights."""

    def __init__(
        self, policy: Policy, sampling: Sampling, batch_size: int, mixture: Mixture | None
    ) -> None:
        self._policy, self._sampling = policy, sampling
        self._weight = mixture.weight if mixture else 0.0
        self._sides = [Decoder(policy, view, batch_size) for view in views(mixture)]
        self._kept: dict[int, np.ndarray] = {}

    def step(self, schedule: Schedule) -> bool:
        """Fill the batch, and give each of its answers a token; False where there are none."""
        before, residents = len(schedule.answers), len(schedule.residents)
        admitted = schedule.fill(self._sampling.uniforms)
        if not schedule.answers:
            return False
        device = self._policy.device
        running = incoming = None
        if before:
            settled = schedule.residents[:residents]
            running = plan_running(schedule.answers[:before], settled, device)
        if admitted:
            incoming = plan_incoming(admitted, self._kept, device)
            self._kept.update({prompt.row: np.array(prompt.ids) for prompt in admitted})
        fresh = [answer.prompt.row for answer in schedule.answers[before:]]
        logits = []
        for side in self._sides:
            parts: list[Tensor] = []
            if running is not None or incoming is not None:
                following = side.forward(running, incoming)
                parts += [] if following is None else [following]
            parts += [side.first(fresh)] if fresh else []
            logits.append(torch.cat(parts))
        self._draw(schedule.answers, logits)
        return True

    def _draw(self, answers: Sequence[Answer], logits: list[Tensor]) -> None:
        uniforms = [answer.uniforms[len(answer.ids)] for answer in answers]
        uniform_B = torch.tensor(uniforms, dtype=torch.float64, device=self._policy.device)
        token_B, logp_B = pick(logits, uniform_B, self._sampling, self._weight)
        drawn = zip(answers, token_B.tolist(), logp_B.tolist(), strict=True)
        for answer, token, logp in drawn:
            answer.ids.append(token)
            answer.logps.append(logp)

    def release(self, schedule: Schedule, done: Sequence[bool]) -> None:
        """Take the answers that are done out of the schedule and of every pool."""
        answers, prompts = schedule.release(done)
        for side in self._sides:
            side.move(answers, prompts, len(schedule.residents))
        for source, to in zip(prompts.source, prompts.to, strict=True):
            self._kept[to] = self._kept[source]
