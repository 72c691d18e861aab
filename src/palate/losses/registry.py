"""The methods, one line each. The loop knows data shapes, never a method's name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from palate.losses.batch import Context, LossOutput, State
from palate.losses.dpo import DPO, dpo
from palate.losses.params import build_params
from palate.losses.sft import SFT, sft

Shape = Literal["pair", "demonstration"]


@dataclass(frozen=True, slots=True)
class StepStatistic:
    """Values of the whole step: `shared` ones, and `per_row` ones (one for each example)."""

    shared: dict[str, Tensor]
    per_row: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Method:
    """A loss and what it declares about itself.

    - `loss(batch, params, context)` is pure and unreduced.
    - `shape` is the data it reads; `reference` whether log-ratios must be there;
      `tokens` whether completions count by the sum or the mean of their token log-probs.
    - `normalise`: the step divides by its `examples` or by its supervised `tokens`.
    - `statistic(step batch, params, state)`: a gradient-free pass over the whole optimizer
      step runs first, for methods that couple examples.
    - `initial_state(params)` and `advance(step batch, params, state)`: state that enters a
      step and leaves it as a value, and is checkpointed.
    """

    name: str
    title: str
    formula: str
    paper: str
    shape: Shape
    params: type
    loss: Callable[[Any, Any, Context], LossOutput]
    reference: bool = True
    tokens: Literal["sum", "mean"] = "sum"
    normalise: Literal["examples", "tokens"] = "examples"
    initial_loss: float | None = None
    when: str = ""
    statistic: Callable[[Any, Any, State], StepStatistic] | None = None
    initial_state: Callable[[Any], State] | None = None
    advance: Callable[[Any, Any, State], State] | None = None


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method under its name; a name can be taken once."""
    if method.name in METHODS:
        raise ValueError(f"a method named '{method.name}' is registered already")
    METHODS[method.name] = method
    return method


def find(config: Mapping[str, Any]) -> tuple[Method, Any]:
    """The method and its checked parameters, from a recipe's `method` mapping."""
    given = dict(config)
    name = given.pop("name")
    if name not in METHODS:
        close = difflib.get_close_matches(str(name), METHODS, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"there is: {', '.join(METHODS)}"
        raise ValueError(f"no method is called '{name}'; {hint}")
    method = METHODS[name]
    return method, build_params(method.params, given, name)


register(
    Method(
        name="dpo",
        title="Direct Preference Optimization",
        formula="−log σ(β(a − b))",
        paper="Rafailov et al. 2023, arXiv 2305.18290, eq. 7",
        shape="pair",
        params=DPO,
        loss=dpo,
        initial_loss=0.6931471805599453,
        when="The first thing to try with preference pairs.",
    )
)
register(
    Method(
        name="sft",
        title="Supervised fine-tuning",
        formula="−Σ_t log π(y_t) / tokens of the step",
        paper="maximum likelihood; no paper of its own",
        shape="demonstration",
        params=SFT,
        loss=sft,
        reference=False,
        normalise="tokens",
        when="Demonstrations of good answers, or a base that never does what is wanted.",
    )
)
