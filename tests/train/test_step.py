"""The step: invariant to the cut, exact at the reference, with statistics and state."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tests.tiny import VOCABULARY, tiny_model
from torch import Tensor

from palate.config import AdapterConfig
from palate.losses.batch import Context, LossOutput, Pairs, State
from palate.losses.method import Method, StepStatistic
from palate.losses.registry import METHODS
from palate.model.adapters import adapters_off, attach
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.tokens.render import Rendered
from palate.tokens.sampler import cut
from palate.tokens.tree import Branch
from palate.train.reference import LiveReference
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, StepResult, compute_step, pack

DPO, SFT = METHODS["dpo"], METHODS["sft"]
CPU = torch.device("cpu")


def tokens(count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=draw).tolist()


def example(index: int, completions: int = 2) -> Rendered:
    """Prompts under one system prompt; answers of lengths that differ."""
    prompt = [*tokens(12, 7), *tokens(3 + index % 4, 100 + index)]
    branches = []
    for k in range(completions):
        answer = tokens(4 + (index + 3 * k) % 5, 200 + 10 * index + k)
        branches.append(Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer)))
    return Rendered(str(index), len(prompt), tuple(branches))


EIGHT = [example(i) for i in range(8)]


def batches(
    cuts: list[list[int]], examples: list[Rendered], *, share: bool = True
) -> list[MicroBatch]:
    rows = list(range(len(examples)))
    return pack(examples, rows, cuts, share=share, device=CPU)


class FixedReference:
    """Reference values drawn once for each row."""

    def __init__(self, examples: list[Rendered]) -> None:
        self.by_row = []
        for row, one in enumerate(examples):
            count = sum(sum(b.mask) for b in one.branches)
            draw = torch.Generator().manual_seed(row)
            self.by_row.append(-5 * torch.rand(count, generator=draw))

    def __call__(self, micro: MicroBatch) -> Tensor:
        return torch.cat([self.by_row[row] for row in micro.rows])


def run(
    model: Any, cuts: list[list[int]], method: Method = DPO, examples: list[Rendered] = EIGHT
) -> StepResult:
    params = method.params()
    state = method.initial_state(params) if method.initial_state else {}
    reference = FixedReference(examples) if method.reference else None
    return compute_step(
        Policy(model), method, params, Packed(batches(cuts, examples), reference), state
    )


def gradients(model: Any) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


CUTS = [
    [list(range(8))],
    [[i] for i in range(8)],
    [[5, 1, 7], [0], [2, 3, 4, 6]],
]


def sampled(index: int) -> Rendered:
    """An answer as a rollout hands it out: what was known of its tokens, and its reward."""
    plain = example(index, 1)
    count = sum(plain.branches[0].mask)
    draw = torch.Generator().manual_seed(300 + index)
    columns = {
        "old": -4 + 0.1 * torch.randn(count, generator=draw),
        "advantage": torch.randn(count, generator=draw),
        "sampler": -4 + 0.1 * torch.randn(count, generator=draw),
    }
    return replace(plain, columns=columns, told={"reward": float(index)})


@pytest.mark.parametrize(
    "method",
    [DPO, SFT, METHODS["grpo"], METHODS["dapo"], METHODS["gspo"]],
    ids=lambda method: method.name,
)
def test_the_cut_never_changes_the_gradients(method: Method) -> None:
    examples = EIGHT if method is DPO else [example(i, 1) for i in range(8)]
    if method.shape == "sample":
        examples = [sampled(i) for i in range(8)]
    results, grads = [], []
    for cuts in CUTS:
        model = tiny_model()
        results.append(run(model, cuts, method, examples))
        grads.append(gradients(model))
    for result, grad in zip(results[1:], grads[1:], strict=True):
        assert float(result.loss) == pytest.approx(float(results[0].loss), rel=1e-6)
        for name in grads[0]:
            scale = float(grads[0][name].abs().max())
            assert float((grad[name] - grads[0][name]).abs().max()) <= 1e-5 * scale, name


def test_the_cut_never_changes_the_weights() -> None:
    """SGD weights to 1e-5 relative; AdamW's within 0.2·lr a step (it divides by tiny moments)."""
    lr, after = 1e-2, {}
    for name, make in (("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)):
        found = []
        for cuts in CUTS[:2]:
            model = tiny_model()
            optimizer = make(model.parameters(), lr=lr)  # type: ignore[operator]
            for _ in range(3):
                optimizer.zero_grad()
                run(model, cuts)
                optimizer.step()
            found.append({n: p.detach().clone() for n, p in model.named_parameters()})
        after[name] = found
    for name, weight in after["sgd"][0].items():
        other = after["sgd"][1][name]
        assert float((weight - other).abs().max()) <= 1e-5 * float(weight.abs().max()), name
    for name, weight in after["adamw"][0].items():
        assert float((weight - after["adamw"][1][name]).abs().max()) <= 3 * 0.2 * lr, name


def test_the_loss_is_the_mean_over_the_step() -> None:
    result = run(tiny_model(), CUTS[2])
    assert result.examples == 8
    assert float(result.metrics["loss"].double().mean()) == pytest.approx(float(result.loss))
    assert len(result.metrics["margin"]) == 8


def test_sft_divides_by_the_tokens_of_the_step() -> None:
    examples = [example(i, 1) for i in range(8)]
    result = run(tiny_model(), CUTS[2], SFT, examples)
    count = sum(sum(e.branches[0].mask) for e in examples)
    assert float(result.loss) == pytest.approx(float(result.metrics["loss"].sum()) / count)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_first_loss_is_ln_2(kind: str) -> None:
    """fp32, cached reference of another packing: |loss − ln 2| ≤ 1e-6."""
    from palate.model.score import score
    from palate.train.reference import ReferenceLogps

    model = tiny_model()
    adapted = attach(model, AdapterConfig(kind=kind), 0)  # type: ignore[arg-type]
    policy = Policy(model)
    with adapters_off(adapted):
        cached = ReferenceLogps(score(policy, EIGHT, budget=64))
    result = compute_step(policy, DPO, DPO.params(), Packed(batches(CUTS[1], EIGHT), cached), {})
    assert float(result.loss) == pytest.approx(0.6931471805599453, abs=1e-6)
    live = LiveReference(policy, lambda: adapters_off(adapted))
    if kind == "lora":
        result = compute_step(policy, DPO, DPO.params(), Packed(batches(CUTS[0], EIGHT), live), {})
        assert float(result.loss) == pytest.approx(0.6931471805599453, abs=1e-12)
        assert float(result.metrics["abs_h"].max()) == 0.0


def test_in_bf16_h_at_the_first_step_is_no_larger_than_the_plain_paths() -> None:
    """Mean and maximum |a − b| against a cache of another packing, tree against padded rows."""
    from palate.model.score import score
    from palate.train.reference import ReferenceLogps

    def spread(layout: Any) -> Tensor:
        model = tiny_model()
        model.requires_grad_(False)
        to_compute(model, "bf16")
        policy = Policy(model, layout=layout, precision="bf16")
        share = layout == "tree"
        budget = 90 if share else 150
        cached = ReferenceLogps(score(policy, EIGHT, budget))
        step = batches(CUTS[2], EIGHT, share=share)
        result = compute_step(policy, DPO, DPO.params(), Packed(step, cached), {}, backward=False)
        return result.metrics["abs_h"]

    tree, plain = spread("tree"), spread("plain")
    assert float(tree.mean()) <= float(plain.mean()) + 0.05
    assert float(tree.max()) <= float(plain.max()) + 0.1


@dataclass(frozen=True)
class Nothing:
    """No parameters."""


def centred(pairs: Pairs, params: Nothing, context: Context) -> LossOutput:
    """(h − mean h of the step)² weighted by the example's rank in the step."""
    h = pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B
    loss = context.per_row["rank"] * (h - context.statistic["mean"] - context.state["ema"]) ** 2
    return LossOutput(loss, {"h": h.detach()})


def statistic(step: Pairs, params: Nothing, state: State) -> StepStatistic:
    h = step.chosen.log_ratio_B - step.rejected.log_ratio_B
    return StepStatistic({"mean": h.mean()}, {"rank": h.argsort().argsort().to(h.dtype)})


def advance(step: Pairs, params: Nothing, state: State) -> State:
    h = step.chosen.log_ratio_B - step.rejected.log_ratio_B
    return {"ema": 0.9 * state["ema"] + 0.1 * h.mean()}


COUPLED = Method(
    name="coupled",
    title="A method that couples the examples of a step",
    formula="",
    paper="",
    shape="pair",
    params=Nothing,
    loss=centred,
    statistic=statistic,
    initial_state=lambda params: {"ema": torch.tensor(0.5, dtype=torch.float64)},
    advance=advance,
)


def test_step_statistics_and_state_do_not_depend_on_the_cut() -> None:
    results, grads = [], []
    for cuts in CUTS:
        model = tiny_model()
        results.append(run(model, cuts, COUPLED))
        grads.append(gradients(model))
    h = torch.empty(8, dtype=torch.float64)
    order = [row for rows in CUTS[2] for row in rows]
    h[order] = results[2].metrics["h"]
    expected = (h.argsort().argsort() * (h - h.mean() - 0.5) ** 2).mean()
    for result, grad in zip(results, grads, strict=True):
        assert float(result.loss) == pytest.approx(float(expected), rel=1e-5)
        assert float(result.state["ema"]) == pytest.approx(0.45 + 0.1 * float(h.mean()), rel=1e-5)
        for name in grads[0]:
            scale = float(grads[0][name].abs().max())
            assert float((grad[name] - grads[0][name]).abs().max()) <= 2e-5 * scale, name


def test_the_statistic_has_no_gradient() -> None:
    """With the mean detached, Σ (h − mean) has the gradient of Σ h; attached it would have none."""
    plain_sum = replace(
        COUPLED,
        loss=lambda pairs, params, context: LossOutput(
            pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B - context.statistic["mean"], {}
        ),
    )
    model = tiny_model()
    run(model, CUTS[0], plain_sum)
    assert max(float(g.abs().max()) for g in gradients(model).values()) > 1e-3


def test_a_loss_that_is_not_finite_names_the_examples() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"on examples \[0, 1, 2, 3, 4, 5, 6, 7\]"):
        run(model, CUTS[0])


def test_only_the_examples_whose_own_loss_is_not_finite_are_named() -> None:
    """Rows 3 and 6 have a reference that is no number; the step's loss is none either."""
    reference = FixedReference(EIGHT)
    for row in (3, 6):
        reference.by_row[row] = reference.by_row[row] * float("nan")
    for cuts in CUTS:
        packed = Packed(batches(cuts, EIGHT), reference)
        with pytest.raises(FloatingPointError) as raised:
            compute_step(Policy(tiny_model()), DPO, DPO.params(), packed, {})
        assert sorted(json.loads(str(raised.value).rpartition("examples ")[2])) == [3, 6]


def test_without_backward_nothing_is_touched() -> None:
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    compute_step(
        Policy(model),
        DPO,
        DPO.params(),
        Packed(batches(CUTS[0], EIGHT), FixedReference(EIGHT)),
        {},
        backward=False,
    )
    assert not gradients(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_tree_and_plain_layouts_give_the_same_step() -> None:
    grads = []
    for layout, share in (("tree", True), ("plain", False)):
        model = tiny_model()
        compute_step(
            Policy(model, layout=layout),  # type: ignore[arg-type]
            DPO,
            DPO.params(),
            Packed(
                batches(cut(EIGHT, range(8), 200, share=share), EIGHT, share=share),
                FixedReference(EIGHT),
            ),
            {},
        )
        grads.append(gradients(model))
    for name, grad in grads[0].items():
        scale = float(grad.abs().max())
        assert float((grad - grads[1][name]).abs().max()) <= 1e-5 * scale, name
