"""`palate doctor RECIPE --ranks N`: what each of several GPUs would need, before any is rented."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, get_args

import typer

from palate.cli.health import GIB, TIGHT, print_rows
from palate.config import RunConfig, TrainConfig, load_config

if TYPE_CHECKING:
    from palate.model.cost import Anatomy, RunWork
    from palate.model.policy import Precision
    from palate.model.sharding import Kind, RankMemory
    from palate.model.traffic import Traffic
    from palate.tokens.render import Rendered


@dataclass(frozen=True, slots=True)
class Cluster:
    """GPUs that are not there: how many, how many in one machine, GiB of each (None: not said)."""

    ranks: int
    machine: int
    memory: float | None


@dataclass(frozen=True, slots=True)
class Way:
    """One way of sharing the work, `parallel`: bytes of a rank by purpose, and what it sends.

    `refused` is why this recipe cannot be trained so.
    """

    parallel: str
    tokens_per_microbatch: int
    recompute: bool
    memory: RankMemory
    microbatches: int
    sent: Traffic
    room: float | None
    refused: str = ""

    @property
    def fits(self) -> bool:
        """Whether a step, and before it the loading, stay within a GPU's memory."""
        whole = max(self.memory.total, self.memory.loading)
        return not self.refused and (self.room is None or whole <= self.room)

    @property
    def verdict(self) -> str:
        """One line."""
        need = f"about {self.memory.total / GIB:.1f} GiB at the peak of a step"
        if self.refused:
            return f"REFUSED: {self.refused}"
        if self.room is None:
            return f"{need}; say with --memory how much each GPU has"
        room = f"{self.room / GIB:.0f} GiB each"
        if self.memory.total > self.room:
            return f"DOES NOT FIT: {need}, {room}"
        if not self.fits:
            return (
                f"DOES NOT FIT: {need}, but each rank first takes "
                f"{self.memory.loading / GIB:.1f} GiB to load the model, {room}"
            )
        return f"{'TIGHT' if self.memory.total > TIGHT * self.room else 'FITS'}: {need}, {room}"

    def rows(self) -> list[tuple[str, str]]:
        """For the terminal."""
        memory = self.memory
        parts = {
            "program": memory.program,
            "weights": memory.weights,
            "gradients": memory.gradients,
            "moments": memory.moments,
            "reference": memory.reference,
            "gathered": memory.gathered,
            "unreduced gradients": memory.unreduced,
            "rounded copies": memory.rounded,
            "activations": memory.activations,
            "logits": memory.logits,
        }
        said = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size)
        tokens = f"{self.tokens_per_microbatch:,}"
        again = ", layers computed again" if self.recompute else ""
        sent = f"{self.sent.inside / 1e9:,.2f} GB inside its machine"
        sent += f", {self.sent.between / 1e9:,.2f} GB to others" if self.sent.between else ""
        return [
            (
                self.parallel,
                f"{self.microbatches} micro-batches a step of at most {tokens} tokens{again}",
            ),
            ("  GiB", said),
            ("  sends", f"{sent}, a rank and step"),
            ("", self.verdict),
        ]


@dataclass(frozen=True, slots=True)
class Renting:
    """Every way of sharing, and facts of the recipe."""

    ways: list[Way]
    wanted: str
    parameters: int
    trained: int
    examples: int
    tokens_a_step: float
    idle: int

    @property
    def chosen(self) -> Way:
        """The recipe's own way."""
        return next(way for way in self.ways if way.parallel == self.wanted)

    @property
    def verdict(self) -> str:
        """One line for the recipe as it is, and the cure."""
        way = self.chosen
        said = f"train.parallel={way.parallel}: {way.verdict}."
        others = [other.parallel for other in self.ways if other.fits]
        if way.fits:
            return said
        if others:
            return f"{said} Use train.parallel={others[0]}."
        return f"{said} Use more GPUs, larger ones, adapter.kind=lora, or a smaller model."


def run_renting(
    recipe: str | None, overrides: Sequence[str], cluster: Cluster, *, as_json: bool
) -> None:
    """Print what each way of sharing needs; raises `ValueError` for what the user can mend."""
    if recipe is None:
        raise ValueError("--ranks asks what a recipe needs: give its file")
    config = load_config(recipe, overrides)
    if config.stages:
        raise ValueError("a recipe of stages needs what its largest stage does: give that stage's")
    found = renting(config, cluster)
    if as_json:
        told = {**asdict(found), "verdict": found.verdict, "fits": found.chosen.fits}
        for way, one in zip(told["ways"], found.ways, strict=True):
            way |= {"total": one.memory.total, "fits": one.fits, "verdict": one.verdict}
        typer.echo(json.dumps({"ranks": told}, ensure_ascii=False))
        return
    trained = f"{found.trained / 1e6:,.2f}M"
    rows = [
        ("examples", f"{found.examples:,} to train on"),
        ("model", f"{found.parameters / 1e6:,.1f}M parameters, {trained} trained"),
        ("tokens a step", f"{found.tokens_a_step:,.0f} unique, of all ranks together"),
        ("to load", _loading(found.chosen.memory)),
        *(row for way in found.ways for row in way.rows()),
    ]
    each = "" if cluster.memory is None else f" of {cluster.memory:g} GB"
    print_rows(f"What {recipe} needs on {cluster.ranks} GPUs{each} (rough estimates)", rows)
    if found.idle:
        typer.secho(
            f"! {found.idle} ranks have nothing to do: a step has {config.train.batch_size} "
            f"examples. Raise train.batch_size",
            fg=typer.colors.YELLOW,
        )
    fits = found.chosen.fits
    typer.secho(found.verdict, fg=typer.colors.GREEN if fits else typer.colors.RED)


def _loading(memory: RankMemory) -> str:
    host = f", {memory.host / GIB:.2f} GiB in the memory of rank 0's host" if memory.host else ""
    return f"{memory.loading / GIB:.2f} GiB on each rank{host}"


@dataclass(frozen=True, slots=True)
class _Case:
    """What all ways of sharing have in common; `second`: bytes of a reference of its own."""

    config: RunConfig
    cluster: Cluster
    anatomy: Anatomy
    precision: Precision
    examples: Sequence[Rendered]
    live: bool
    second: int

    @property
    def room(self) -> float | None:
        """Bytes of one GPU."""
        return None if self.cluster.memory is None else self.cluster.memory * GIB

    def laid_out(self, tokens: int) -> RunWork:
        """The run's steps, cut into micro-batches of so many tokens."""
        from palate.model.cost import run_work
        from palate.tokens.sampler import Sampler

        train = self.config.train
        sampler = Sampler.over(self.examples, train.batch_size, self.config.seed, train.order)
        steps = sampler.total_steps(train.epochs, train.max_steps)
        share = train.layout != "plain"
        return run_work(self.examples, sampler, steps, tokens, share=share)


def renting(config: RunConfig, cluster: Cluster) -> Renting:
    """Render the data, lay out the steps, and do the sums for each way of sharing.

    Raises `ValueError` for what the user can mend.
    """
    from palate.cli.needs import rendered
    from palate.losses.registry import method_of
    from palate.model.cost import Work, anatomy_of
    from palate.model.load import load_config_only
    from palate.model.memory import memory
    from palate.train.reference import reference_mode

    if config.model.quantize != "none":
        raise ValueError("model.quantize is not estimated for several ranks: set it to none")
    method, _ = method_of(config)
    examples, _, _ = rendered(config, method)
    trust, adapter = config.model.trust_remote_code, config.adapter
    sizes = load_config_only(config.model.path, trust_remote_code=trust)
    anatomy = anatomy_of(sizes, trust_remote_code=trust)
    precision: Precision = "fp32" if config.train.precision == "fp32" else "bf16"
    live = method.reference and reference_mode(config.train.reference, method) != "cached"
    moving = method.moving is not None
    alone = memory(anatomy, Work(), adapter, precision, live_reference=live, moving=moving)
    case = _Case(config, cluster, anatomy, precision, examples, live, alone.reference)
    ways = [_way(case, kind) for kind in _kinds(cluster)]
    work = case.laid_out(ways[0].tokens_per_microbatch)
    return Renting(
        ways=ways,
        wanted="ddp" if config.train.parallel == "auto" else config.train.parallel,
        parameters=anatomy.parameters,
        trained=anatomy.adapter(adapter) if adapter.kind == "lora" else anatomy.parameters,
        examples=len(examples),
        tokens_a_step=work.total.unique / work.steps,
        idle=max(0, cluster.ranks - config.train.batch_size),
    )


def _way(case: _Case, kind: Kind) -> Way:
    """With the first cut into micro-batches that fits, or the last."""
    from palate.model.sharding import division, rank_memory
    from palate.model.traffic import step_traffic
    from palate.train.budget import MARGIN

    ranks, adapter, room = case.cluster.ranks, case.config.adapter, case.room
    shared = division(kind, ranks, case.cluster.machine)
    divided = shared.shard > 1
    for tokens, again in _cuts(case.config, divided=divided):
        work = case.laid_out(tokens)
        found = rank_memory(
            case.anatomy,
            work.largest,
            adapter,
            case.precision,
            shared,
            recompute=again,
            logits_budget=_logits_budget(room),
        )
        found = replace(found, reference=0 if divided else case.second)
        if room is None or found.total <= MARGIN * room:
            break
    microbatches = max(1, math.ceil(work.total.unique / work.steps / ranks / tokens))
    refused = "a reference that is computed at every step wants whole weights"
    return Way(
        parallel=kind,
        tokens_per_microbatch=tokens,
        recompute=again,
        memory=found,
        microbatches=microbatches,
        sent=step_traffic(case.anatomy, adapter, case.precision, shared, microbatches),
        room=room,
        refused=refused if divided and case.live else "",
    )


def _kinds(cluster: Cluster) -> list[Kind]:
    """The ways that a recipe can name; hybrid is for several machines."""
    named = get_args(TrainConfig.model_fields["parallel"].annotation)
    several = cluster.ranks > cluster.machine
    return [kind for kind in named if kind in {"ddp", "fsdp"} or (kind == "hybrid" and several)]


def _cuts(config: RunConfig, *, divided: bool) -> list[tuple[int, bool]]:
    """Tokens of a micro-batch, and whether layers are computed again: in the order of trying.

    Divided weights are gathered for each micro-batch, so that few and large ones are tried first.
    """
    from palate.train.budget import CHOICES

    wanted = config.train.tokens_per_microbatch
    ceiling = CHOICES[0] if wanted == "auto" else wanted
    choices = [ceiling, *(c for c in CHOICES if c < ceiling)]
    if config.train.checkpointing != "auto":
        return [(tokens, config.train.checkpointing == "always") for tokens in choices]
    if divided:
        return [(ceiling, False), *((tokens, True) for tokens in choices)]
    return [*((tokens, False) for tokens in choices), (choices[-1], True)]


def _logits_budget(room: float | None) -> int:
    """What `palate.model.head` takes for a chunk of logits on a GPU where all is free, at most."""
    from palate.model.head import LOGITS_BUDGET, SHARE_OF_FREE

    return LOGITS_BUDGET if room is None else max(LOGITS_BUDGET, int(SHARE_OF_FREE * room))
