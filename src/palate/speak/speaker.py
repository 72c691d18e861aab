"""What every model that can be asked has in common, on this machine or behind a URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from palate.records import Message


@dataclass(frozen=True, slots=True)
class Manner:
    """How to answer: at most so many tokens; temperature 0 is greedy; `top_k` 0 is no limit."""

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int = 50
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `finished` where the model ended it itself.

    With a `failure`, a short stable word, there is no answer: an outage is never taken for one.
    """

    text: str
    finished: bool = True
    failure: str | None = None


class Speaker(Protocol):
    """A model that answers conversations."""

    name: str

    def ask(self, conversations: Sequence[Sequence[Message]], manner: Manner) -> list[Reply]:
        """One reply to each conversation, in order.

        The same conversations, in the same order and manner, get the same replies, as far as the
        model's machine allows.
        """
        ...
