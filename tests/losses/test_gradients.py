"""Every method of the registry, as it comes and in its variants: gradients, and the far ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.losses.sides import as_given, context_of
from torch import Tensor

from palate.losses.batch import Context, Demonstrations, Labelled, Pairs, Side, detach
from palate.losses.method import Method
from palate.losses.registry import METHODS

# Besides each method's defaults: what takes another branch.
VARIANTS: dict[str, list[dict[str, object]]] = {
    "ipo": [{"tokens": "mean"}],
    "ld-dpo": [{"alpha": 0.0}],
    "aot": [{"epsilon": 0.1}],
    "aot-unpaired": [{"epsilon": 0.1}],
    "f-dpo": [{"divergence": d} for d in ("reverse-kl", "forward-kl", "alpha")],
    "discopop": [{"temperature": 0.9}],
    "kto": [{"desirable": 2.0, "undesirable": 0.5}],
    "reward": [{"margin": 1.0, "center": 0.0}],
}
CASES = [
    pytest.param({"name": name, **given}, id="-".join(map(str, [name, *given.values()])))
    for name, method in METHODS.items()
    if method.shape != "sample"  # see test_policy_gradient.py
    for given in [{}, *VARIANTS.get(name, [])]
]
# What a loss may differentiate of one answer, in this order.
LEAVES = ("logp", "ratio", "common_ratio", "kl", "score")
LENGTHS = ([3.0, 7.0, 20.0, 1.0, 5.0, 2.0], [4.0, 7.0, 9.0, 6.0, 1.0, 2.0])


def made(leaves: dict[str, Tensor], length: list[float], method: Method) -> Side:
    """A side with everything that any method reads; a method without reference has none."""
    length_B = torch.tensor(length, dtype=leaves["logp"].dtype)
    return Side(
        logp_B=leaves["logp"],
        ratio_B=leaves["ratio"] if method.reference else None,
        length_B=length_B,
        sums={
            "common_ratio": leaves["common_ratio"],
            "kl": leaves["kl"],
            "log_sum_p2": -1.5 * length_B,
        },
        score_B=leaves["score"],
    )


def batch_of(method: Method, first: Side, second: Side) -> Any:
    """The sides as the data the method reads."""
    if method.shape == "pair":
        told = {"reference_chosen": torch.arange(len(first.length_B)) % 2}
        return Pairs(first, second, told)
    if method.shape == "labelled":
        up = torch.arange(len(first.length_B)) % 2
        return Labelled(first, up.to(first.length_B))
    return Demonstrations(first)


def mismatched(method: Method, second: Side) -> Labelled | None:
    return Labelled(detach(second), torch.ones(1)) if method.mismatched else None


@contextmanager
def constants(kept: list[Tensor], *, record: bool) -> Iterator[None]:
    """What a loss detaches is written down, or is what was written down.

    A difference quotient has no stop-gradient; with this, the detached parts stand still in it
    as they do in the gradient.
    """
    original = Tensor.detach
    again = iter(list(kept))

    def detached(self: Tensor) -> Tensor:
        if not record:
            return next(again)
        kept.append(original(self).clone())
        return kept[-1]

    patch = pytest.MonkeyPatch()
    patch.setattr(Tensor, "detach", detached)
    try:
        yield
    finally:
        patch.undo()


def objective(
    method: Method, params: Any, context: Context, lengths: tuple[list[float], list[float]]
) -> Callable[..., Tensor]:
    """The unreduced loss as a function of its leaves: those of the first side, then the second."""

    def function(*leaves: Tensor) -> Tensor:
        sides = [
            made(dict(zip(LEAVES, part, strict=True)), length, method)
            for part, length in zip((leaves[:5], leaves[5:]), lengths, strict=True)
        ]
        return method.loss(batch_of(method, *sides), params, context).loss_B

    return function


def context_at(
    method: Method,
    params: Any,
    leaves: list[Tensor],
    lengths: tuple[list[float], list[float]],
) -> Context:
    sides = [
        made(dict(zip(LEAVES, part, strict=True)), length, method)
        for part, length in zip((leaves[:5], leaves[5:]), lengths, strict=True)
    ]
    return context_of(method, params, batch_of(method, *sides), mismatched(method, sides[1]))


@pytest.mark.parametrize("given", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_the_loss(given: dict[str, object], seed: int) -> None:
    """Against difference quotients in float64; statistics and detached parts are constants.

    Log-ratios of a few nats are away from the kinks (hinge: a margin of 1/β = 10 nats; slic:
    a difference of 1 nat, which the seeds do not come near; f-dpo: its clamp).
    """
    method, params = as_given(**given)
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    draw[0], draw[5] = -5 - 2 * draw[0].abs(), -5 - 2 * draw[5].abs()
    leaves = [row.clone().requires_grad_() for row in draw]
    context = context_at(method, params, [x.detach() for x in leaves], LENGTHS)
    function = objective(method, params, context, LENGTHS)
    kept: list[Tensor] = []
    with constants(kept, record=True):
        function(*leaves)

    def held(*moved: Tensor) -> Tensor:
        with constants(kept, record=False):
            return function(*moved)

    assert torch.autograd.gradcheck(held, leaves, eps=1e-6, atol=1e-5, rtol=1e-4)


ENDS = [-1e4, -1e3, -100.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 100.0, 1e3, 1e4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", CASES)
def test_values_and_gradients_are_finite_from_minus_10000_to_10000(
    given: dict[str, object], dtype: torch.dtype
) -> None:
    method, params = as_given(**given)
    grid = torch.tensor(ENDS, dtype=dtype)
    a, b = (x.flatten() for x in torch.meshgrid(grid, grid, indexing="ij"))
    rows = []
    for x in (a, b):
        # log-probs are at most 0, a divergence at least 0
        rows += [-x.abs(), x, x / 2, x.abs(), x]
    leaves = [row.clone().requires_grad_() for row in rows]
    lengths = ([1.0 + i % 7 for i in range(len(a))], [1.0 + i % 5 for i in range(len(a))])
    context = context_at(method, params, [x.detach() for x in leaves], lengths)
    value = objective(method, params, context, lengths)(*leaves)
    assert value.dtype == dtype
    assert torch.isfinite(value).all()
    for row, name in enumerate([*LEAVES, *LEAVES]):
        found: Sequence[Tensor | None] = torch.autograd.grad(
            value.sum(), leaves[row], retain_graph=True, allow_unused=True
        )
        grad = found[0]
        assert grad is None or torch.isfinite(grad).all(), f"{name} of side {row // 5 + 1}"


@pytest.mark.parametrize("given", CASES)
def test_metrics_have_no_gradient_and_one_value_for_each_example(given: dict[str, object]) -> None:
    method, params = as_given(**given)
    leaves = [torch.full((6,), -1.0 - i, requires_grad=True) for i in range(10)]
    context = context_at(method, params, [x.detach() for x in leaves], LENGTHS)
    sides = [
        made(dict(zip(LEAVES, part, strict=True)), length, method)
        for part, length in zip((leaves[:5], leaves[5:]), LENGTHS, strict=True)
    ]
    out = method.loss(batch_of(method, *sides), params, context)
    assert out.loss_B.shape == (6,)
    assert out.loss_B.requires_grad
    for name, value in out.metrics.items():
        assert value.shape == (6,), name
        assert not value.requires_grad, name
