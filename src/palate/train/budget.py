"""How many tokens a micro-batch may hold: decided by arithmetic, and remembered when it changes.

The budget bounds memory and never changes a sum, but another cut changes the last bits. So it
is decided once, before training, and written to the run's plan; what a step has to change about
it is written there too, and a continued run cuts every step as it was cut before.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

import torch

from palate.config import RunConfig
from palate.losses.method import Method
from palate.machine import free_memory, taken_memory
from palate.model.cost import Anatomy, Work, micro_work
from palate.model.memory import Memory, memory
from palate.model.policy import Precision
from palate.model.sharding import RankMemory, rank_memory
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, computed_tokens, cut
from palate.train.folder import Lowered, Plan
from palate.train.parallel import how_divided
from palate.train.reference import reference_mode

# The budgets that `auto` chooses among: powers of two, so that two runs on one machine agree
# although its free memory is never twice the same.
CHOICES = (8192, 4096, 2048, 1024, 512, 256)
# Enough for a CPU's matrix products: there a larger budget costs memory and gains nothing, unless
# a smaller one would tear apart what shares a beginning and compute more than `TORN` of it twice.
ENOUGH_ON_CPU, TORN = 2048, 1.03
# Share of the room that a prediction may fill.
MARGIN = 0.85
# Steps that are cut to find the largest micro-batch; of longer runs, so many evenly spaced ones.
_STEPS_LOOKED_AT = 1000
# Steps that are cut at each choice to see what a smaller budget tears apart.
_STEPS_COUNTED = 20
# Of the micro-batches, by tokens, the one that needs the most memory is the largest.
_CANDIDATES = 8


class Peak(Protocol):
    """What a micro-batch takes: `palate.model.memory.Memory`, or `RankMemory` of several ranks."""

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        ...


P = TypeVar("P", bound=Peak)


class Budget:
    """The tokens that a micro-batch may hold at each optimizer step, counted from 0.

    `keep` is told the plan whenever a step lowers it, before the step is tried again.
    """

    def __init__(self, plan: Plan, keep: Callable[[Plan], None] = lambda plan: None) -> None:
        self.plan, self.keep = plan, keep

    @property
    def first(self) -> int:
        """What was settled before training: for passes that are no optimizer step."""
        return self.plan.settled_budget

    def at(self, step: int) -> int:
        """Tokens of a micro-batch of this step."""
        return self.plan.budget_at(step)

    def lower(self, step: int, tokens: int) -> None:
        """From `step` on, at most `tokens`."""
        assert tokens < self.at(step), "a budget is only ever lowered"
        lowered = (*self.plan.lowered, Lowered(step, tokens))
        self.plan = replace(self.plan, lowered=lowered)
        self.keep(self.plan)


@dataclass(frozen=True, slots=True)
class Decision(Generic[P]):
    """A budget, the rows of the largest micro-batch under it, and what that is predicted to take.

    `room` is what the run may take in all, None where it is not known.
    """

    tokens: int
    largest: tuple[int, ...]
    memory: P
    room: int | None

    @property
    def fits(self) -> bool:
        """Whether the prediction leaves its margin."""
        return self.room is None or self.memory.total <= MARGIN * self.room


def decide(
    wanted: int | Literal["auto"],
    examples: Sequence[Rendered],
    sampler: Sampler,
    steps: int,
    *,
    share: bool,
    need: Callable[[Work], P],
    room: int | None,
    enough: int = CHOICES[0],
) -> Decision[P]:
    """The largest budget whose largest micro-batch fits; a number in the recipe is a ceiling.

    `auto` begins at `enough` tokens, or more where that would tear apart what is shared. Where
    not even one example alone fits, the decision for that (`fits` is False then).
    """
    ceiling = wanted
    if ceiling == "auto":
        ceiling = _untorn(examples, sampler, steps, enough, share=share)
    for tokens in (ceiling, *(c for c in CHOICES if c < ceiling)):
        rows, work = largest_microbatch(examples, sampler, steps, tokens, share=share, need=need)
        found = Decision(tokens, tuple(rows), need(work), room)
        if found.fits or len(rows) == 1:
            break
    return found


def _untorn(
    examples: Sequence[Rendered], sampler: Sampler, steps: int, enough: int, *, share: bool
) -> int:
    """The smallest choice from `enough` on that computes hardly more than the largest would."""
    looked_at = sorted({i * steps // _STEPS_COUNTED for i in range(_STEPS_COUNTED)})
    drawn = [sampler.batch(step) for step in looked_at]

    def tokens(budget: int) -> int:
        parts = (part for rows in drawn for part in cut(examples, rows, budget, share=share))
        return sum(computed_tokens(examples, part, share=share) for part in parts)

    fewest = tokens(CHOICES[0])
    from_enough = [choice for choice in reversed(CHOICES) if choice >= enough]
    return next(c for c in from_enough if c == CHOICES[0] or tokens(c) <= TORN * fewest)


def need_of(
    config: RunConfig, anatomy: Anatomy, precision: Precision, method: Method, *, fused: bool
) -> Callable[[Work], Memory]:
    """What a micro-batch of the recipe's run takes, by its work."""
    return functools.partial(
        memory,
        anatomy,
        adapter=config.adapter,
        precision=precision,
        live_reference=method.reference
        and reference_mode(config.train.reference, method) != "cached",
        moving=method.moving is not None,
        in_4_bits=config.model.quantize == "nf4",
        fused=fused,
    )


def need_of_rank(
    config: RunConfig, anatomy: Anatomy, plan: Plan, logits_budget: int
) -> Callable[[Work], RankMemory]:
    """The same for one of several ranks that divide the weights.

    Unless the recipe forbids it, layers are taken to be computed again where that is needed:
    a smaller micro-batch would gather all weights once more.
    """
    return functools.partial(
        rank_memory,
        anatomy,
        adapter=config.adapter,
        precision=plan.precision,
        division=how_divided(plan.parallel, plan.ranks),
        recompute=config.train.checkpointing != "never",
        gpu=not plan.device.startswith("cpu"),
        logits_budget=logits_budget,
    )


def enough_on(device: str) -> int:
    """Tokens beyond which a larger micro-batch makes no step faster on this device."""
    return ENOUGH_ON_CPU if device == "cpu" else CHOICES[0]


def largest_microbatch(
    examples: Sequence[Rendered],
    sampler: Sampler,
    steps: int,
    budget: int,
    *,
    share: bool,
    need: Callable[[Work], Peak],
) -> tuple[list[int], Work]:
    """Rows and work of the micro-batch of the run that needs the most memory.

    Of a run of more than a thousand steps, a thousand are looked at.
    """
    looked_at = sorted({i * steps // _STEPS_LOOKED_AT for i in range(_STEPS_LOOKED_AT)})
    parts = (p for s in looked_at for p in cut(examples, sampler.batch(s), budget, share=share))
    sized = ((computed_tokens(examples, part, share=share), part) for part in parts)
    largest = [part for _, part in heapq.nlargest(_CANDIDATES, sized)]
    works = [micro_work(examples, part, share=share) for part in largest]
    best = max(range(len(works)), key=lambda i: need(works[i]).total)
    return largest[best], works[best]


def room_on(device: torch.device) -> int | None:
    """Bytes that the run may take on its device in all: what is free, and what it holds now.

    On a CPU it is the cgroup's limit that counts: past it the kernel ends the process unasked.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    free = free_memory() if device.type == "cpu" else None
    return None if free is None else free + taken_memory()
