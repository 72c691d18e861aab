"""Which measurement on the held-out examples was the best, and when there were enough without one.

The state is JSON in every checkpoint, so that a continued run chooses as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from palate.config import ConfigError
from palate.losses.method import Method


def check_selectable(by: str | None, method: Method, heldout: int) -> None:
    """Raise `ConfigError` where a recipe's `train.best` cannot be measured."""
    if by is None:
        return
    if heldout == 0:
        raise ConfigError("train.best needs held-out examples: set data.heldout above 0")
    if (by == "reward") != (method.data == "prompt"):
        other = "reward" if method.data == "prompt" else "accuracy or loss"
        raise ConfigError(f"{method.name} has no held-out {by}: use train.best={other}")
    if by == "accuracy" and method.shape in {"demonstration", "text"}:
        raise ConfigError(f"{method.name} has no accuracy: use train.best=loss")


@dataclass(slots=True)
class Selection:
    """The best measurement so far: its step (0 is before training), its values, and since when.

    `since` counts the measurements after it.
    """

    by: Literal["accuracy", "loss", "reward"] | None = None
    patience: int | None = None
    step: int | None = None
    means: dict[str, float] = field(default_factory=dict)
    since: int = 0

    def judge(self, step: int, means: Mapping[str, float]) -> bool:
        """Whether this measurement is the best so far."""
        if self.by is None or not means:
            return False
        if self.step is None or self._rank(means) > self._rank(self.means):
            self.step, self.means, self.since = step, dict(means), 0
            return True
        self.since += 1
        return False

    @property
    def enough(self) -> bool:
        """Whether the run should end."""
        return self.patience is not None and self.since >= self.patience

    def _rank(self, means: Mapping[str, float]) -> tuple[float, ...]:
        if self.by == "reward":
            return (means.get("reward", -math.inf),)
        loss = -means["loss"]
        return (means["accuracy"], loss) if self.by == "accuracy" else (loss,)

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"step": self.step, "means": self.means, "since": self.since}

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's `to_json`; an empty mapping changes nothing."""
        if raw:
            self.step, self.means, self.since = raw["step"], dict(raw["means"]), raw["since"]
