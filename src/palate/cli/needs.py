"""What a recipe needs: its data rendered without weights, then memory and time by arithmetic."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from palate.cli.health import GIB, TIGHT, Health
from palate.config import RunConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.losses.method import Method
    from palate.model.cost import Anatomy, RunWork, Work
    from palate.model.memory import Memory
    from palate.model.policy import Precision
    from palate.records import Example
    from palate.tokens.render import Rendered


@dataclass(frozen=True, slots=True)
class Needs:
    """Rough estimates for one recipe; bytes, seconds, tokens, operations a second."""

    funnel: str
    train: int
    heldout: int
    parameters: int
    trained: int
    work: RunWork
    tokens_per_microbatch: int
    memory: Memory
    memory_free: int | None
    training_seconds: float
    reference_seconds: float
    measuring_seconds: float
    speed: float
    allowance: float
    peak: float
    precision: str

    @property
    def fits(self) -> bool:
        """Whether the estimate stays within what is free."""
        return self.memory_free is None or self.memory.total <= self.memory_free

    @property
    def sharing(self) -> float:
        """Tokens of all branches by themselves over unique tokens."""
        return self.work.total.path / self.work.total.unique

    @property
    def verdict(self) -> str:
        """One line: fits, tight or does not fit, and then the cure."""
        need = f"about {self.memory.total / GIB:.1f} GiB at the peak"
        if self.memory_free is None:
            return f"memory: {need}; how much is free is not known here"
        free = f"{self.memory_free / GIB:.1f} GiB free"
        if not self.fits:
            return f"DOES NOT FIT: {need}, {free}. {self._cure()}"
        if self.memory.total > TIGHT * self.memory_free:
            return f"TIGHT: {need}, {free}. {self._cure()}"
        return f"FITS: {need}, {free}."

    def _cure(self) -> str:
        memory = self.memory
        if memory.activations + memory.logits > memory.weights + memory.trained:
            return "Lower train.tokens_per_microbatch: it changes no result."
        if self.trained == self.parameters:
            return "Use adapter.kind=lora, or a smaller model."
        return "Use a smaller model, or a machine with more memory."

    def rows(self) -> list[tuple[str, str]]:
        """For the terminal."""
        steps, total, memory = self.work.steps, self.work.total, self.memory
        parts = {
            "program": memory.program,
            "weights fp32": memory.weights,
            "bf16 and 4-bit copies": memory.copies,
            "reference": memory.reference,
            "trained (gradient, 2 moments)": memory.trained,
            "activations": memory.activations,
            "logits": memory.logits,
        }
        said = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size)
        trained = f"{self.trained / 1e6:,.2f}M trained"
        time = (
            f"training {_duration(self.training_seconds)}, reference "
            f"{_duration(self.reference_seconds)}, held-out measurements "
            f"{_duration(self.measuring_seconds)}; sampling answers comes on top"
        )
        measured = (
            f"{self.speed / 1e9:,.3g} GFLOP/s, measured on a slice of this model in "
            f"{self.precision}: {self.speed / self.peak:.0%} of matrix products alone; a busy "
            "machine takes longer"
        )
        tokens = f"{total.unique / steps:,.0f} unique, {total.padded / steps:,.0f} as padded rows"
        return [
            ("data", self.funnel),
            ("examples", f"{self.train} train, {self.heldout} held-out"),
            ("model", f"{self.parameters / 1e6:,.1f}M parameters, {trained}"),
            ("steps", f"{steps}"),
            ("tokens a step", tokens),
            ("micro-batch", f"at most {self.tokens_per_microbatch:,} tokens"),
            ("sharing", f"{self.sharing:.1f}x fewer tokens than every branch by itself"),
            (
                "memory, GiB",
                f"{said}; to save and ship instead of these two, {memory.last / GIB:.2f}"
                + (f"; to merge the adapter, {memory.mapped / GIB:.2f}" if memory.mapped else ""),
            ),
            ("", f"and {self.allowance - 1:.0%} more for temporaries and what the allocator keeps"),
            ("time", time),
            ("speed", measured),
        ]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        derived = {"fits": self.fits, "verdict": self.verdict, "sharing": self.sharing}
        total = {"memory_total": self.memory.total}
        return {**asdict(self), **total, **derived}


def estimate(config: RunConfig, health: Health) -> Needs:
    """Prepare and render the data, lay out the steps, and do the sums.

    Raises `ValueError` (`IngestError`, `ConfigError`) for what the user can mend.
    """
    from palate.losses.registry import method_of
    from palate.machine import taken_memory
    from palate.model import cost
    from palate.model.fused import may_fuse, suits
    from palate.model.load import load_config_only
    from palate.model.memory import ALLOWANCE
    from palate.model.nf4 import require_nf4
    from palate.tokens.sampler import Sampler
    from palate.train.budget import decide, enough_on, need_of

    if config.model.quantize == "nf4":
        require_nf4()
    method, _ = method_of(config)
    train, heldout, funnel = rendered(config, method)
    trust = config.model.trust_remote_code
    sizes = load_config_only(config.model.path, trust_remote_code=trust)
    anatomy = cost.anatomy_of(sizes, trust_remote_code=trust)
    share = config.train.layout != "plain"
    sampler = Sampler.over(train, config.train.batch_size, config.seed, config.train.order)
    steps = sampler.total_steps(config.train.epochs, config.train.max_steps)
    precision: Precision = "bf16" if health.precision == "bf16" else "fp32"
    room = None if health.memory_free is None else health.memory_free + taken_memory()
    suited = suits(health.device, precision, "tree" if share else "plain")
    fused = suited and config.model.quantize == "none" and may_fuse(sizes)
    need = need_of(config, anatomy, precision, method, fused=fused)
    sizing: dict[str, Any] = {"room": room, "enough": enough_on(health.device)}
    wanted = config.train.tokens_per_microbatch
    decision = decide(wanted, train, sampler, steps, share=share, need=need, **sizing)
    budget = decision.tokens
    work = cost.run_work(train, sampler, steps, budget, share=share)
    held = sum(cost.micro_works(heldout, range(len(heldout)), budget, share=share), cost.Work())
    lora = config.adapter.kind == "lora"
    speed = _speed(config, anatomy, train, sampler.batch(0), budget, precision, health, fused)
    return Needs(
        funnel=funnel,
        train=len(train),
        heldout=len(heldout),
        parameters=anatomy.parameters,
        trained=anatomy.adapter(config.adapter) if lora else anatomy.parameters,
        work=work,
        tokens_per_microbatch=budget,
        memory=decision.memory,
        memory_free=health.memory_free,
        training_seconds=_step_flops(anatomy, work, method, lora=lora) / speed,
        reference_seconds=_reference_flops(anatomy, work, held, method, config.train.reference)
        / speed,
        measuring_seconds=measurements(steps, config.train.eval_every)
        * cost.forward_flops(anatomy, held)
        / speed,
        speed=speed,
        allowance=ALLOWANCE,
        peak=health.peaks[precision],
        precision=precision,
    )


def _speed(
    config: RunConfig,
    anatomy: Anatomy,
    train: Sequence[Rendered],
    rows: Sequence[int],
    budget: int,
    precision: Precision,
    health: Health,
    fused: bool,
) -> float:
    """Operations a second of a micro-batch of the first step, or of so much as takes a moment."""
    from palate.model.cost import micro_work
    from palate.model.speed import measure_speed, tokens_enough
    from palate.tokens.sampler import cut

    share = config.train.layout != "plain"
    parts = cut(train, rows, min(budget, tokens_enough(anatomy)), share=share)
    part = max(parts, key=lambda one: micro_work(train, one, share=share).computed)
    return measure_speed(
        anatomy,
        [branch for row in part for branch in train[row].branches],
        precision,
        health.device,
        share=share,
        lora=config.adapter if config.adapter.kind == "lora" else None,
        fused=fused,
    )


def measurements(steps: int, every: int) -> int:
    """How often the held-out pairs are measured: before, at each interval, and at the end."""
    at = {0, steps} | (set(range(every, steps, every)) if every else set())
    return len(at)


def _step_flops(anatomy: Anatomy, work: RunWork, method: Method, *, lora: bool) -> float:
    """All steps, each with a forward pass before it where the method has a step statistic."""
    from palate.model.cost import forward_flops, training_flops

    extra = forward_flops(anatomy, work.total) if method.statistic else 0.0
    return training_flops(anatomy, work.total, lora=lora) + extra


def _reference_flops(
    anatomy: Anatomy, work: RunWork, held: Work, method: Method, reference: str
) -> float:
    """One forward pass over everything when cached, one at each step when live.

    The cached pass sorts all the data and shares more than the steps do, so this is a bound.
    Mismatched examples, drawn for every epoch, are about as long as those that they are made of.
    """
    from palate.model.cost import forward_flops
    from palate.train.reference import reference_mode

    if not method.reference:
        return 0.0
    cached = reference_mode(reference, method) == "cached"
    flops = forward_flops(anatomy, (work.epoch if cached else work.total) + held)
    return flops + (forward_flops(anatomy, work.total + held) if method.mismatched else 0.0)


def rendered(config: RunConfig, method: Method) -> tuple[list[Rendered], list[Rendered], str]:
    """The recipe's training and held-out examples as tokens, and the data's funnel in words."""
    from palate.curate.prepare import prepare
    from palate.rollout.assemble import stand_ins
    from palate.store.judged import reader_of
    from palate.train.setup import renderer_without_weights

    renderer = renderer_without_weights(config)
    prepared = prepare(
        config.data,
        config.seed,
        check=lambda example: renderer.check(example, method.data),
        shape=method.data,
        read=reader_of(method.data),
    )

    def tokens_of(examples: Sequence[Example]) -> list[Rendered]:
        return [one for example in examples for one in renderer.render_as(example, method.data)]

    train, heldout = tokens_of(prepared.train), tokens_of(prepared.heldout)
    if config.rollout is not None:
        # What is learned from is not there yet: answers of the greatest length stand for it.
        train = stand_ins(list(zip(prepared.train, train, strict=True)), method, config.rollout)
        heldout = []
    return train, heldout, prepared.funnel.line()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
