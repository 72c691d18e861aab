"""What the writers of the formats hand to the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from palate.ship.parity import Scorer


@dataclass(frozen=True, slots=True)
class Seen:
    """How a runtime with a tokenizer of its own encodes texts.

    `prompts` held-out prompts were encoded as in training. Of `odd_texts` with numbers, other
    scripts, spaces and code, those in `differing` were not.
    """

    prompts: int
    odd_texts: int
    differing: list[str]


@dataclass(frozen=True, slots=True)
class Built:
    """An export that has been written: its runtime, what gives logits through it, its weights."""

    runtime: str
    scorer: Callable[[], Scorer]
    files: list[str] = field(default_factory=list)
    seen: Seen | None = None
