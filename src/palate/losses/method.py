"""What a method declares about itself; the loop knows these declarations, never a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from palate.losses.batch import Context, LossOutput, State

# What a method learns from: pairs, thumbs, good answers, or plain text.
Shape = Literal["pair", "labelled", "demonstration", "text"]
# Sums over a completion's tokens that a method may ask for besides the log-probs:
# - "kl": Σ_t KL(π_ref ‖ π) over the vocabulary, in nats, with gradient;
# - "log_sum_p2": Σ_t log Σ_v π(v)², without gradient;
# - "common_ratio": the log-ratio of the first min(L_w, L_l) tokens, of pairs.
Sum = Literal["kl", "log_sum_p2", "common_ratio"]


@dataclass(frozen=True, slots=True)
class StepStatistic:
    """Values of the whole step: `shared` ones, and `per_row` ones (one for each example)."""

    shared: dict[str, Tensor]
    per_row: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a method may know about the training data before the first step."""

    examples: int
    desirable: int = 0
    undesirable: int = 0


@dataclass(frozen=True, slots=True)
class Moving:
    """A reference that follows the policy: every `every` steps ref ← share·θ + (1 − share)·ref."""

    share: float
    every: int


@dataclass(frozen=True, slots=True)
class Method:
    """A loss and what it declares about itself.

    - `loss(batch, params, context)` is pure and unreduced.
    - `shape` is the data it reads; `reference` whether log-ratios must be there;
      `tokens` whether completions count by the sum or the mean of their token log-probs
      (in words, for the index, where a parameter decides).
    - `normalise`: the step divides by its `examples` or by its supervised `tokens`.
    - `sums` it wants of each completion besides the log-probs' (see `Sum`).
    - `head`: the model's own, or a `scalar` one whose value at the last token is read.
    - `prompts`: with a scalar head, prompts that are judged without an answer are read too.
    - `moving(params)`: the reference follows the policy; it is then computed at every step.
    - `statistic(step batch, params, state)`: a gradient-free pass over the whole optimizer
      step runs first, for methods that couple examples. With `mismatched` the batch holds
      each example's prompt with another example's completion.
    - `initial_state(params)` and `advance(step batch, params, state)`: state that enters a
      step and leaves it as a value, and is checkpointed.
    - `resolve(params, counts)` fills parameters whose default is None from the data.
    - `initial_loss`, at the default parameters and policy = reference, where it is a constant;
      `initial(params)` says it for others where it depends on them.
    - `when` to use it, `defaults` where its defaults come from, `peers` what others do
      differently: for the method index.
    """

    name: str
    title: str
    formula: str
    paper: str
    shape: Shape
    params: type
    loss: Callable[[Any, Any, Context], LossOutput]
    reference: bool = True
    tokens: str = "sum"
    normalise: Literal["examples", "tokens"] = "examples"
    initial_loss: float | None = None
    initial: Callable[[Any], float | None] | None = None
    when: str = ""
    defaults: str = ""
    peers: str = ""
    sums: tuple[Sum, ...] = ()
    head: Literal["own", "scalar"] = "own"
    prompts: bool = False
    moving: Callable[[Any], Moving] | None = None
    mismatched: bool = False
    statistic: Callable[[Any, Any, State], StepStatistic] | None = None
    initial_state: Callable[[Any], State] | None = None
    advance: Callable[[Any, Any, State], State] | None = None
    resolve: Callable[[Any, Counts], Any] | None = None

    def first_loss(self, params: Any) -> float | None:
        """The loss at policy = reference; None where it is no constant."""
        return self.initial_loss if self.initial is None else self.initial(params)

    @property
    def live_only(self) -> str | None:
        """Why the reference must be computed at every step; None where a cache serves."""
        if self.moving is not None:
            return "its reference moves"
        return "it reads the reference's whole distribution" if "kl" in self.sums else None
