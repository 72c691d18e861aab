"""The model that is to be trained, as far as lint needs to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.records import Example


@dataclass(frozen=True, slots=True)
class TargetModel:
    """A model by its names, and two functions where it can be asked.

    `names` are those under which a log writes its answers (`Completion.source`). `logprobs` gives,
    for each of some examples, the mean log-prob of a token for each of its answers, in nats, and
    nothing for one that the model cannot read; `own` gives the same for one answer that the model
    itself samples to each of the prompts, and nan where it cannot.
    """

    name: str
    names: tuple[str, ...] = ()
    logprobs: Callable[[Sequence[Example]], Sequence[Sequence[float]]] | None = None
    own: Callable[[Sequence[Example]], Sequence[float]] | None = None
