"""What the device lets a run do: its attention kernel, compiled layers, recomputation.

What changes the bits of a result is decided when a run begins and goes into its plan
(`plan_device`). Recomputation does not, so it follows from the memory that is free now.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import torch

from palate.config import ConfigError, RunConfig, TrainConfig
from palate.machine import free_memory
from palate.model.blocks import Blocks
from palate.model.cost import Work, anatomy_of, work_of
from palate.model.fused import fuse, suits
from palate.model.head import logits_budget
from palate.model.kernels import KERNELS, Choice, check, choose, heads_of, kernel_named
from palate.model.memory import TRAINED_BYTES, activations
from palate.model.policy import Policy
from palate.model.probe import probe_forest
from palate.model.rounded import round_at_use
from palate.model.sharding import rank_memory
from palate.progress import Quiet, Reporter
from palate.tokens.tree import Forest
from palate.train.folder import Plan
from palate.train.parallel import ALONE, Ranks, how_divided

# Share of the memory left over that a micro-batch's activations may be predicted to take.
_MARGIN = 0.8


def plan_device(policy: Policy, plan: Plan, config: TrainConfig, say: Reporter) -> Plan:
    """The plan with the kernel, the head's budget and whether layers are compiled."""
    device, tree = torch.device(plan.device), plan.layout == "tree"
    wanted = config.attention
    if wanted != "auto" and not tree and wanted != "tiled":
        raise ConfigError(f"train.attention {wanted} is for the tree layout: use auto")
    chosen = _choose_kernel(policy, plan, wanted) if tree else Choice("tiled", "")
    if chosen.warning:
        say.note(f"WARNING: {chosen.warning}")
    elif device.type == "cuda" and tree:
        say.note(f"tree attention: {chosen.name} ({chosen.reason})")
    if config.compile == "on" and not tree:
        raise ConfigError("train.compile on is for the tree layout: use auto or off")
    return replace(
        plan,
        attention=chosen.name,
        logits_budget=logits_budget(device),
        compiled=tree
        and (config.compile == "on" or (config.compile == "auto" and device.type == "cuda")),
    )


def _choose_kernel(policy: Policy, plan: Plan, wanted: str) -> Choice:
    device = torch.device(plan.device)
    heads = heads_of(policy.model.config.get_text_config())
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    if wanted == "auto":
        return choose(heads, device, dtype)
    if wanted not in KERNELS:
        return Choice(wanted, "as the recipe says")
    if device.type != "cuda":
        raise ConfigError(
            f"train.attention {wanted} needs a CUDA device, and this is {device.type}: use auto or "
            "tiled"
        )
    wrong = check(KERNELS[wanted], heads, device, dtype)
    if wrong is not None:
        raise ConfigError(f"train.attention is {wanted}, but {wrong}: use auto or tiled")
    return Choice(wanted, "as the recipe says")


def equip(
    policy: Policy,
    plan: Plan,
    config: RunConfig,
    say: Reporter | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Give the policy what its plan and the recipe say; compiling that fails is said aloud.

    Ranks that divide its weights compile all or none.
    """
    say, train = say or Quiet(), config.train
    policy.kernel = kernel_named(plan.attention)
    policy.logits_budget = plan.logits_budget
    # The short forward reads weights whole, and keeps rounded copies of those that are trained.
    if plan.divided:
        round_at_use(policy.model)
    elif suits(policy.device.type, plan.precision, plan.layout):
        policy.fused = fuse(policy.model)
    if train.offload_activations and train.checkpointing == "never":
        raise ConfigError(
            "train.offload_activations moves what recomputation keeps, and train.checkpointing is "
            "never: use auto or always"
        )
    if train.checkpointing == "never" and not plan.compiled:
        return
    try:
        needs = _needs(policy, plan, config)
        policy.blocks = Blocks(policy.model, needs, offload=train.offload_activations)
    except ValueError as error:
        if train.checkpointing == "always" or train.compile == "on":
            raise ConfigError(str(error)) from error
        return
    if plan.compiled:
        wrong = policy.blocks.compile(lambda: _trial(policy))
        if ranks.divided and ranks.most(wrong is not None) and wrong is None:
            policy.blocks.run_as_before()
            wrong = "another rank cannot compile them"
        if wrong is not None:
            say.note(f"WARNING: layers run uncompiled, slower and as exact: {wrong}")


def _trial(policy: Policy) -> None:
    """One forward and backward pass over a few tokens; no gradient is left behind."""
    forest, _ = probe_forest(policy.model.config.get_text_config().vocab_size)
    trained = [p for p in policy.parameters() if p.requires_grad]
    with torch.set_grad_enabled(bool(trained)):
        found = policy(forest.to(policy.device))
        total = found.token_logps_N.sum()
        if found.scores_B is not None:
            total = total + found.scores_B.sum()
        if trained:
            # Not `autograd.grad`: of divided weights the graph knows the gathered ones.
            total.backward()
            for weight in trained:
                weight.grad = None


def _needs(policy: Policy, plan: Plan, config: RunConfig) -> Callable[[Forest], bool]:
    """Whether a forest's layers must be recomputed, by what the recipe says and what is free."""
    wanted = config.train.checkpointing
    if wanted != "auto":
        return lambda forest: wanted == "always"
    anatomy = anatomy_of(policy.model.config, trust_remote_code=config.model.trust_remote_code)
    lora, fused = config.adapter.kind == "lora", policy.fused > 0
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    free, taken = free_bytes(policy.device), float(TRAINED_BYTES * trained)
    if plan.divided:
        shared = how_divided(plan.parallel, plan.ranks)
        rank = rank_memory(anatomy, Work(), config.adapter, policy.precision, shared)
        taken = rank.gradients + rank.moments + rank.comes_and_goes
    room = _MARGIN * free - taken - 3 * policy.logits_budget
    kept = functools.partial(
        activations, anatomy, precision=policy.precision, lora=lora, fused=fused
    )
    return lambda forest: kept(work=work_of(forest)) > room


def free_bytes(device: torch.device) -> float:
    """Memory that is left on the device; without end where that cannot be asked."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "cpu":
        free = free_memory()
        return float("inf") if free is None else free
    return float("inf")
