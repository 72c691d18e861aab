"""The scores of `palate data trace`: one example under the base model and under the run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palate.cli.runs import finished_model
from palate.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from palate.cli.journey import Journey
    from palate.model.policy import Policy
    from palate.tokens.tree import Forest


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one example under one policy: Σ log π of each branch, its log-ratio, and the loss."""

    logps: list[float]
    ratios: list[float]
    lengths: list[int]
    loss: float
    metrics: dict[str, float]


def show_scores(journey: Journey, console: Console) -> None:
    """Print them for the model before and after training, on the run's device and precision."""
    before, after = score(journey)
    letters = ("a", "b")
    plan = journey.plan
    console.print(f"   before: {journey.config.model.path}, after: {journey.folder / 'model'}")
    console.print(f"   {plan.device}, {plan.precision}; sums over the trained tokens, in nats")
    rows = []
    for index, name in enumerate(journey.branch_names):
        tokens = f"{before.lengths[index]} tokens"
        logp, logp_ref = after.logps[index], before.logps[index]
        rows.append((f"{name}, {tokens}: Σ log π_ref", f"{logp_ref:.4f}", f"{logp_ref:.4f}"))
        rows.append((f"{name}, {tokens}: Σ log π", f"{logp_ref:.4f}", f"{logp:.4f}"))
        if journey.method.reference:
            a, said = letters[index], "Σ (log π − log π_ref)"
            rows.append(
                (f"{a} = {said}", f"{before.ratios[index]:+.4f}", f"{after.ratios[index]:+.4f}")
            )
    if "margin" in before.metrics:
        left, right = before.metrics["margin"], after.metrics["margin"]
        rows.append(("margin", f"{left:+.4f}", f"{right:+.4f}"))
    rows.append((f"loss ({journey.method.name})", f"{before.loss:.4f}", f"{after.loss:.4f}"))
    width = max(len(name) for name, _, _ in rows)
    console.print(f"   {'':<{width}}  {'before':>12}  {'after':>12}")
    for name, left_text, right_text in rows:
        console.print(f"   {name:<{width}}  {left_text:>12}  {right_text:>12}")


def score(journey: Journey) -> tuple[Scores, Scores]:
    """(before, after): the base as its own reference, and the run's model against the base."""
    from palate.machine import tune_allocator

    tune_allocator()  # before the first large tensor
    import torch

    model = finished_model(journey.folder)
    with torch.no_grad():
        base = _start(journey)
        reference = base(_forest(journey, base)).token_logps_N
        before = _scores(journey, base, reference)
        del base
        return before, _scores(journey, _shipped(journey, model), reference)


def _start(journey: Journey) -> Policy:
    """What the run started from, in 4 bits or with a saved adapter if so: its own reference."""
    from palate.model.adapters import attach
    from palate.train.base import load_base

    config = journey.config
    model = load_base(config, journey.plan.device).loaded.model
    if config.adapter.path is not None:
        attach(model, config.adapter, config.seed)
    return _policy(journey, model)


def _shipped(journey: Journey, path: str) -> Policy:
    from palate.model.load import load

    trust = journey.config.model.trust_remote_code
    loaded = load(path, trust_remote_code=trust, device=journey.plan.device)
    return _policy(journey, loaded.model)


def _policy(journey: Journey, model: Any) -> Policy:
    """The model, computing as the run does."""
    from palate.model.load import to_compute
    from palate.model.policy import Policy

    plan = journey.plan
    model.requires_grad_(False)
    to_compute(model, plan.precision)
    return Policy(model, layout=plan.layout, precision=plan.precision).eval()


def _forest(journey: Journey, policy: Policy) -> Forest:
    from palate.tokens.tree import build_forest

    return build_forest(journey.rendered.branches, share=journey.share).to(policy.device)


def _scores(journey: Journey, policy: Policy, reference_N: Tensor) -> Scores:
    """The method's own loss of this one example, through the step that training takes."""
    from palate.train.shapes import MicroBatch
    from palate.train.step import Packed, compute_step

    method, params = journey.method, journey.params
    if method.statistic is not None or method.live_only or method.head != "own":
        raise ConfigError(
            f"the loss of one example alone cannot be computed for {method.name}: it depends on "
            "its whole step, on a reference that is not kept, or on a head of its own"
        )
    forest = _forest(journey, policy)
    micro = MicroBatch(forest, rows=(journey.index,), places=(0,))
    result = compute_step(
        policy,
        method,
        params,
        Packed([micro], lambda micro: reference_N),
        method.initial_state(params) if method.initial_state else {},
        backward=False,
    )
    out = policy(forest)
    ratios_N = out.token_logps_N.double() - reference_N.double()
    return Scores(
        logps=out.sums_B().tolist(),
        ratios=out.sums_B(ratios_N).tolist(),
        lengths=out.counts_B().tolist(),
        loss=float(result.loss),
        metrics={name: float(value[0]) for name, value in result.metrics.items()},
    )
