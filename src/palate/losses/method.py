"""What a method declares about itself; the loop knows these declarations, never a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from palate.losses.batch import Context, LossOutput, State
from palate.losses.credit import Credit, Scored

# What a method learns from: pairs, thumbs, good answers, plain text, or its own samples.
Shape = Literal["pair", "labelled", "demonstration", "text", "sample"]
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
    """What a method may know about the training data before the first step.

    `longest`: tokens of the longest answer that is sampled, where answers are.
    """

    examples: int
    desirable: int = 0
    undesirable: int = 0
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Moving:
    """A reference that follows the policy: every `every` steps ref ← share·θ + (1 − share)·ref."""

    share: float
    every: int


@dataclass(frozen=True, slots=True)
class Online:
    """How a method that samples its own data does so.

    - `judge`: answers get a `score` each; or `preference`: their share of wins against the
      others; or there is `none`.
    - `against`: where the other answers come from: the policy's `own` samples, the
      `reference`'s, those of a `mixture` of both, or the data's `demonstration`s.
    - `least`: samples of a prompt that it needs; `updates`: passes over a rollout's answers.
    - `dynamic`: groups whose answers all earn the same are sampled anew from other prompts.
    - `fresh`: the reference becomes the policy of every so many rollouts; 0: never.
    - `mixture(params)`: the reference's weight in a mixture.
    - `always`: the method has no other data; otherwise a recipe's `rollout` makes it so.
    """

    judge: Literal["score", "preference", "none"] = "score"
    against: Literal["own", "reference", "mixture", "demonstration"] = "own"
    least: int = 1
    updates: int = 1
    dynamic: bool = False
    fresh: int = 0
    mixture: Callable[[Any], float] | None = None
    always: bool = True


@dataclass(frozen=True, slots=True)
class Method:
    """A loss and what it declares about itself.

    - `loss(batch, params, context)` is pure and unreduced.
    - `shape` is the data it reads; `reference` whether log-ratios must be there;
      `tokens` whether completions count by the sum or the mean of their token log-probs
      (in words, for the index, where a parameter decides).
    - `normalise`: the step divides by its `examples` or by its supervised `tokens`.
    - `sums` it wants of each completion besides the log-probs' (see `Sum`).
    - `head`: the model's own, or a `scalar` one whose value at the last token is read, or its
      own and a `value` one that is read before every token.
    - `reference_if(params)`: whether it has a reference depends on them.
    - `prompts`: with a scalar head, prompts that are judged without an answer are read too.
    - `moving(params)`: the reference follows the policy; it is then computed at every step.
    - `statistic(step batch, params, state)`: a gradient-free pass over the whole optimizer
      step runs first, for methods that couple examples. With `mismatched` the batch holds
      each example's prompt with another example's completion.
    - `initial_state(params)` and `advance(step batch, params, state)`: state that enters a
      step and leaves it as a value, and is checkpointed.
    - `online`: how it samples the answers that it learns from. `credit(scored, params, state)`
      then turns a rollout's rewards into advantages, of methods on samples;
      `credit_state(params)` is the state that this begins with.
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
    head: Literal["own", "scalar", "value"] = "own"
    prompts: bool = False
    moving: Callable[[Any], Moving] | None = None
    mismatched: bool = False
    statistic: Callable[[Any, Any, State], StepStatistic] | None = None
    initial_state: Callable[[Any], State] | None = None
    advance: Callable[[Any, Any, State], State] | None = None
    resolve: Callable[[Any, Counts], Any] | None = None
    reference_if: Callable[[Any], bool] | None = None
    online: Online | None = None
    credit: Callable[[Scored, Any, State], Credit] | None = None
    credit_state: Callable[[Any], State] | None = None

    @property
    def data(self) -> Literal["pair", "labelled", "demonstration", "text", "prompt"]:
        """What it needs in the data: prompts are enough where it samples the answers."""
        if self.online is not None and self.online.always:
            return "demonstration" if self.online.against == "demonstration" else "prompt"
        assert self.shape != "sample", "samples come from a rollout"
        return self.shape

    def first_loss(self, params: Any) -> float | None:
        """The loss at policy = reference; None where it is no constant."""
        return self.initial_loss if self.initial is None else self.initial(params)

    @property
    def live_only(self) -> str | None:
        """Why the reference must be computed at every step; None where a cache serves."""
        if self.moving is not None:
            return "its reference moves"
        return "it reads the reference's whole distribution" if "kl" in self.sums else None
