"""Everything that is decided before the first step: model, adapter, layout, reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from palate.config import ConfigError, RunConfig
from palate.losses.method import Method
from palate.losses.registry import method_of
from palate.machine import cache_root, threads, tune_allocator
from palate.model.adapters import as_reference, attach, trainable
from palate.model.load import load_config_only, load_tokenizer, to_compute
from palate.model.native.build import native
from palate.model.place import pick_device, pick_precision
from palate.model.policy import Layout, Policy
from palate.model.probe import Probe, check_plain, probe
from palate.model.scalar import add_scalar_head
from palate.progress import Reporter
from palate.tokens.render import Rendered, Renderer
from palate.train.base import Base, check_same, load_base
from palate.train.checkpoint import load_weights
from palate.train.device import equip, plan_device
from palate.train.folder import Plan, read_plan, write_environment, write_plan
from palate.train.optimizer import default_lr
from palate.train.parallel import ALONE, Ranks, describe
from palate.train.reference import LiveReference, cached_reference, reference_mode
from palate.train.stochastic import narrow_weights
from palate.train.task import Split


@dataclass(frozen=True, slots=True)
class Learner:
    """The policy with its adapter and tokenizer, and where its reference comes from.

    `reference()` is the policy that the reference's log-probs are read from, and `switch` is
    entered meanwhile: the same policy with its adapters off (or the frozen copy of the one it
    started from), or a frozen copy of the base. `live` is a reference that the method brings
    along, such as one that moves.
    """

    policy: Policy
    adapted: Any | None
    tokenizer: Any
    renderer: Renderer
    plan: Plan
    lr: float
    switch: Callable[[], AbstractContextManager[None]]
    reference: Callable[[], Policy]
    live: LiveReference | None = None


def set_up(
    config: RunConfig, folder: Path, continues: bool, say: Reporter, ranks: Ranks = ALONE
) -> Learner:
    """Load the model, probe it, attach the adapter; write plan.json and environment.json.

    What is decided, rank 0 decides for all.
    """
    allocator = tune_allocator()
    plan = _former_plan(folder, ranks) if continues else None
    device = pick_device(plan.device if plan else config.train.device)
    torch.set_num_threads(plan.threads if plan else threads())
    base = load_base(config, ranks.device(device), ranks)
    loaded, parameters = base.loaded, base.parameters
    policy = Policy(loaded.model)
    if plan is None:
        decided = ranks.on_main(lambda: asdict(_decide(config, policy, device, base, say)))
        plan = replace(Plan.of(decided), ranks=ranks.world, parallel=ranks.parallel)
    check_same(base, plan, config, folder)
    adapted = _adapt(config, policy, plan, say, ranks)
    lr = config.optim.lr or default_lr(config.adapter, parameters)
    trained = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    kernels = f"{policy.fused} fused layers, {native().reason}"
    facts = {"allocator": allocator, "parameters": parameters, "trained": trained, "lr": lr}
    if ranks.is_main:
        write_plan(folder, plan)
        write_environment(
            folder, {"plan": asdict(plan), **facts, "kernels": kernels, "quantised": base.quantised}
        )
    in_4_bits = f", {base.quantised / 1e6:.0f}M in 4 bits" if base.quantised else ""
    say.note(
        f"{config.model.path}: {parameters / 1e6:.0f}M parameters{in_4_bits}, {trained / 1e6:.1f}M "
        f"trained · {device}, {plan.precision} · {plan.layout} layout ({plan.layout_reason})"
        + (f" · {describe(ranks.world, ranks.parallel)}" if ranks.world > 1 else "")
    )
    return Learner(
        policy=policy,
        adapted=adapted,
        tokenizer=loaded.tokenizer,
        renderer=make_renderer(config, loaded.tokenizer, loaded.end_ids, loaded.model.config),
        plan=plan,
        lr=lr,
        switch=lambda: as_reference(adapted),
        reference=_reference_maker(config, policy, adapted, plan),
    )


def trained_learner(
    config: RunConfig, folder: Path, learner: Learner, device: str, step: int | None = None
) -> Learner:
    """The learner with the weights of a checkpoint (default: the last), whole in one process.

    For what follows training that divided the weights over ranks.
    """
    found = whole_learner(config, learner, device)
    load_weights(folder / "checkpoints", trainable(found.policy), step)
    return found


def whole_learner(config: RunConfig, learner: Learner, device: str) -> Learner:
    """The learner as the run began, whole in one process, beside one whose weights are divided."""
    policy = Policy(load_base(config, device).loaded.model)
    # It samples, and ships: nothing for which layers would be compiled.
    adapted = _adapt(config, policy, replace(learner.plan, compiled=False))
    return replace(
        learner,
        policy=policy,
        adapted=adapted,
        switch=lambda: as_reference(adapted),
        reference=_reference_maker(config, policy, adapted, learner.plan),
    )


def _former_plan(folder: Path, ranks: Ranks) -> Plan | None:
    """The decisions of the run that is continued, for the ranks that there are now."""

    def read() -> dict[str, Any] | None:
        plan = read_plan(folder)
        return None if plan is None else asdict(plan)

    raw = ranks.on_main(read)
    if raw is None:
        return None
    plan = Plan.of(raw)
    if (plan.ranks, plan.parallel) == (ranks.world, ranks.parallel):
        return plan
    return replace(plan, ranks=ranks.world, parallel=ranks.parallel, threads=threads())


def _decide(config: RunConfig, policy: Policy, device: str, base: Base, say: Reporter) -> Plan:
    found = _choose_layout(policy, config, say)
    plan = Plan(
        layout=found.layout,
        layout_reason=found.reason,
        precision=pick_precision(config.train.precision, device),
        device=device,
        threads=torch.get_num_threads(),
        tokens_per_microbatch=None,
        base_sha256=base.sha256,
        reference_sha256=base.reference_sha256,
    )
    return plan_device(policy, plan, config.train, say)


def _adapt(
    config: RunConfig,
    policy: Policy,
    plan: Plan,
    say: Reporter | None = None,
    ranks: Ranks = ALONE,
) -> Any | None:
    """Attach the adapter and apply the plan; returns the adapted model, if there is one.

    Weights that ranks divide are divided here, before anything is computed on their device.
    """
    adapted = attach(policy.model, config.adapter, config.seed)
    narrow_weights(policy.model, config.train.weights, plan.precision)
    to_compute(policy.model, plan.precision)
    policy.layout, policy.precision = plan.layout, plan.precision
    if method_of(config)[0].head == "scalar":
        add_scalar_head(policy)
    policy.eval()
    if ranks.divided:
        ranks.wrap(policy)
    equip(policy, plan, config, say, ranks)
    return adapted


def make_split(
    config: RunConfig,
    learner: Learner,
    method: Method,
    examples: Sequence[Rendered],
    title: str,
    say: Reporter,
    budget: int,
    ranks: Ranks = ALONE,
) -> Split:
    """Examples with their reference's log-probs, as the method and the recipe want them.

    The pass computes at most `budget` tokens at once.

    Must run before a checkpoint is loaded: without adapters the policy itself, still at
    its base weights, is what the cache is filled from.
    """
    if not method.reference or not examples:
        return Split(examples, None)
    if reference_mode(config.train.reference, method) != "cached":
        if ranks.divided:
            raise ConfigError(
                "a reference that is computed at every step cannot be read from divided weights: "
                "use train.reference=cached where the method allows it, or train.parallel=ddp"
            )
        return Split(examples, learner.live or LiveReference(learner.reference(), learner.switch))
    with say.bar(title, len(examples)) as bar:
        cached = cached_reference(
            learner.policy,
            learner.switch,
            examples,
            cache_root() / "reference",
            weights=learner.plan.reference_sha256 or learner.plan.base_sha256,
            budget=budget,
            advance=bar.advance,
            ranks=ranks,
        )
    return Split(examples, cached)


def _choose_layout(policy: Policy, config: RunConfig, say: Reporter) -> Probe:
    """The recipe's layout, or what the probe allows; a refusal of the tree is said aloud.

    Raises `ConfigError` for a model that neither layout computes exactly.
    """
    wanted: Layout | str = config.train.layout
    found = Probe("plain", "as the recipe says") if wanted == "plain" else probe(policy)
    if found.layout == "tree":
        return found
    if wanted == "tree":
        raise ConfigError(
            f"train.layout is tree, but it is not exact for this model: {found.reason}; "
            "use auto or plain"
        )
    wrong = check_plain(policy)
    if wrong is not None:
        tree = "" if wanted == "plain" else f"the tree: {found.reason}; "
        raise ConfigError(f"this model cannot be trained exactly yet: {tree}padded rows: {wrong}")
    if wanted != "plain":
        say.note(f"WARNING: using the plain layout, slower and as exact: {found.reason}")
    return found


def make_renderer(
    config: RunConfig, tokenizer: Any, end_ids: tuple[int, ...], model_config: Any
) -> Renderer:
    """The recipe's renderer; no row may be longer than the model has positions."""
    positions = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    return Renderer(
        tokenizer,
        template=config.data.template,
        max_length=min(config.data.max_length, positions or config.data.max_length),
        max_prompt_length=config.data.max_prompt_length,
        end_ids=end_ids,
        prompts=method_of(config)[0].prompts,
    )


def renderer_without_weights(config: RunConfig) -> Renderer:
    """The recipe's renderer from the tokenizer and the model's config alone."""
    path, trust = config.model.path, config.model.trust_remote_code
    tokenizer, end_ids = load_tokenizer(path, trust_remote_code=trust)
    model_config = load_config_only(path, trust_remote_code=trust)
    return make_renderer(config, tokenizer, end_ids, model_config)


def _reference_maker(
    config: RunConfig, policy: Policy, adapted: Any | None, plan: Plan
) -> Callable[[], Policy]:
    @functools.cache
    def make() -> Policy:
        if adapted is not None:
            return policy
        frozen = load_base(config, str(policy.device)).loaded.model.requires_grad_(False)
        to_compute(frozen, plan.precision)
        copy = Policy(frozen, layout=plan.layout, precision=plan.precision).eval()
        equip(copy, plan, config)
        return copy

    return make
