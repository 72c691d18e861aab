"""The token budget is settled before anything long begins: by arithmetic, then by trying.

The largest micro-batch of the run is computed once, forward and backward, with memory for the
optimizer set aside, and its result thrown away: a run that will not fit fails in its first
minute and not in its third hour. Nothing is drawn and no weight changes, so the run's bits are
those of a run without the trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from palate.config import RunConfig
from palate.losses.method import Method
from palate.machine import ran_out_of_memory
from palate.model.adapters import trainable
from palate.model.cost import Anatomy, Work, anatomy_of
from palate.model.load import load_config_only
from palate.model.policy import Policy
from palate.progress import Reporter
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler
from palate.train.budget import (
    Budget,
    Decision,
    P,
    decide,
    enough_on,
    need_of,
    need_of_rank,
    room_on,
)
from palate.train.folder import Plan, write_plan
from palate.train.parallel import ALONE, Ranks
from palate.train.reference import LiveReference, reference_mode
from palate.train.retry import forget, release, smaller
from palate.train.setup import Learner
from palate.train.shapes import MicroBatch, ReferenceLookup
from palate.train.step import Packed, compute_step, pack

_GIB = 2**30


def settle(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    chosen: tuple[Method, Any],
    examples: Sequence[Rendered],
    say: Reporter,
    ranks: Ranks = ALONE,
) -> Budget:
    """The run's budget; of a run that is continued, the one it has.

    Otherwise it is decided, tried and written to the run's plan. Raises `DoesNotFit` when one
    example alone is too much.
    """
    plan = learner.plan
    if plan.tokens_per_microbatch is None:
        settled = _by_arithmetic if ranks.divided else _tried
        tokens = ranks.on_main(lambda: settled(config, learner, chosen, examples, say))
        plan = replace(plan, tokens_per_microbatch=tokens)
        if ranks.is_main:
            write_plan(folder, plan)

    def keep(changed: Plan) -> None:
        if ranks.is_main:
            write_plan(folder, changed)

    return Budget(plan, keep)


def _tried(
    config: RunConfig,
    learner: Learner,
    chosen: tuple[Method, Any],
    examples: Sequence[Rendered],
    say: Reporter,
) -> int:
    """A budget whose largest micro-batch was predicted to fit, and did."""
    fused = learner.policy.fused > 0
    precision = learner.plan.precision
    need = need_of(config, _anatomy(config), precision, chosen[0], fused=fused)
    room = room_on(learner.policy.device)
    wanted = config.train.tokens_per_microbatch
    while True:
        found = _decided(config, learner, examples, wanted, need, room)
        _tell(found, config.train.tokens_per_microbatch, say)
        failed = attempt(config, learner, chosen, examples, found.largest)
        if failed is None:
            return found.tokens
        wanted, room = smaller(failed, found.tokens), None
        say.note(f"out of memory on the largest micro-batch: trying {wanted} tokens instead")


def _by_arithmetic(
    config: RunConfig,
    learner: Learner,
    chosen: tuple[Method, Any],
    examples: Sequence[Rendered],
    say: Reporter,
) -> int:
    """A budget that was predicted to fit where weights are divided; it is not tried.

    A trial on one rank would wait for the others to gather weights with it, and one that runs out
    of memory cannot begin anew alone. Ranks of one machine share its memory if they run on CPUs.
    """
    policy = learner.policy
    need = need_of_rank(config, _anatomy(config), learner.plan, policy.logits_budget)
    room = room_on(policy.device)
    if room is not None and policy.device.type == "cpu":
        room //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    wanted = config.train.tokens_per_microbatch
    found = _decided(config, learner, examples, wanted, need, room)
    _tell(found, wanted, say)
    return found.tokens


def _decided(
    config: RunConfig,
    learner: Learner,
    examples: Sequence[Rendered],
    wanted: int | Literal["auto"],
    need: Callable[[Work], P],
    room: int | None,
) -> Decision[P]:
    train = config.train
    sampler = Sampler.over(examples, train.batch_size, config.seed, train.order)
    return decide(
        wanted,
        examples,
        sampler,
        sampler.total_steps(train.epochs, train.max_steps),
        share=learner.plan.layout == "tree",
        need=need,
        room=room,
        enough=enough_on(learner.plan.device),
    )


def _anatomy(config: RunConfig) -> Anatomy:
    trust = config.model.trust_remote_code
    sizes = load_config_only(config.model.path, trust_remote_code=trust)
    return anatomy_of(sizes, trust_remote_code=trust)


def _tell(found: Decision[Any], wanted: int | str, say: Reporter) -> None:
    if found.room is None:
        return
    need = f"about {found.memory.total / _GIB:.1f} GiB of {found.room / _GIB:.1f}"
    if not found.fits:
        say.note(
            f"WARNING: this run needs {need} GiB that it may take; it may be killed. Lower "
            "data.max_length or take a smaller model"
        )
    elif isinstance(wanted, int) and found.tokens < wanted:
        say.note(
            f"train.tokens_per_microbatch={wanted} does not fit: {found.tokens} is used ({need} "
            "GiB; no result changes)"
        )


def attempt(
    config: RunConfig,
    learner: Learner,
    chosen: tuple[Method, Any],
    examples: Sequence[Rendered],
    rows: Sequence[int],
) -> MicroBatch | None:
    """Compute one micro-batch and forget it; the micro-batch itself if memory ran out."""
    policy, method = learner.policy, chosen[0]
    share = learner.plan.layout == "tree"
    batches = pack(examples, rows, [rows], share=share, device=policy.device)
    weights = list(trainable(policy).values())
    reference: ReferenceLookup = _zeros
    if method.reference and reference_mode(config.train.reference, method) != "cached":
        reference = learner.live or LiveReference(learner.reference(), learner.switch)
    failed = None
    try:
        _compute_once(policy, chosen, batches, reference, weights)
    except FloatingPointError:
        pass  # of values that nobody trains on: the reference is not the real one
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        failed = batches[0]
    forget(weights)
    release()
    return failed


def _compute_once(
    policy: Policy,
    chosen: tuple[Method, Any],
    batches: Sequence[MicroBatch],
    reference: ReferenceLookup,
    weights: Sequence[Tensor],
) -> None:
    """Forward and backward beside as much memory as AdamW's two moments take, really filled."""
    method, params = chosen
    state = method.initial_state(params) if method.initial_state else {}
    moments = [torch.full_like(weight, 0.0) for weight in weights for _ in range(2)]
    compute_step(policy, method, params, Packed(batches, reference), state)
    del moments


def _zeros(micro: MicroBatch) -> Tensor:
    """A reference that costs nothing."""
    return torch.zeros(len(micro.forest.predictions_N), device=micro.forest.ids_T.device)
