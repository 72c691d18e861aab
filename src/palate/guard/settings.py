"""What a guard is told when it is made, and what `guard.json` says of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from palate.config import ConfigError, RunConfig, apply_overrides, build_config
from palate.durable import MANIFEST, file_hash
from palate.guard.calibration import Calibration
from palate.guard.metrics import Curve, threshold_for_fpr, threshold_for_recall

FILE, MODEL = "guard.json", "model"
VERSION = 1
RECALL = 0.95

Kind = Literal["prompt", "answer"]

_RECIPE: dict[str, Any] = {
    "name": "guard",
    "model": "smollm2-135m-instruct",
    "data": {"heldout": 0.3},
    "method": "classifier",
    "train": {"batch_size": 16, "epochs": 3},
    "evaluate": {"samples": 0},
}
"""What `recipes/classifier.yaml` says, for data without a recipe."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the threshold is chosen for: a recall of at least, or an FPR of at most, so much."""

    recall: float | None = RECALL
    fpr: float | None = None

    def __post_init__(self) -> None:
        if (self.recall is None) == (self.fpr is None):
            raise ValueError("a guard's threshold is for a recall or for an FPR: give one of them")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ValueError(f"the recall must lie in (0, 1], and {self.recall:g} does not")
        if self.fpr is not None and not 0 <= self.fpr < 1:
            raise ValueError(f"the FPR must lie in [0, 1), and {self.fpr:g} does not")

    def threshold(self, found: Curve) -> float:
        """The score from which rows are flagged."""
        if self.fpr is not None:
            return threshold_for_fpr(found, self.fpr)
        assert self.recall is not None, "one of them is given"
        return threshold_for_recall(found, self.recall)

    @property
    def words(self) -> str:
        """For people."""
        if self.fpr is not None:
            return f"at most {self.fpr:.2%} of safe rows flagged"
        return f"at least {self.recall:.0%} of unsafe rows flagged"


@dataclass(frozen=True, slots=True)
class Reading:
    """How conversations become tokens and scores: as in training."""

    template: Literal["chat", "raw"]
    max_length: int
    max_prompt_length: int | None
    system: str | None
    end_ids: tuple[int, ...]
    layout: Literal["tree", "plain"]
    precision: Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Saved:
    """All that stands in `guard.json` beside the figures.

    `threshold` is of scores, before calibration; `kinds` counts the rows that it was calibrated on,
    `model_sha256` is the hash of the manifest of the model that it was calibrated with.
    """

    calibration: Calibration
    threshold: float
    goal: Goal
    kinds: dict[str, int]
    reading: Reading
    model_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Saved:
        """Inverse of `to_dict`; what is not its own is left alone."""
        reading = {**raw["reading"], "end_ids": tuple(raw["reading"]["end_ids"])}
        return cls(
            Calibration(**raw["calibration"]),
            float(raw["threshold"]),
            Goal(**raw["goal"]),
            dict(raw["kinds"]),
            Reading(**reading),
            raw["model_sha256"],
        )


def read_saved(folder: Path) -> tuple[Saved, dict[str, Any]]:
    """What `guard.json` in `folder` says, and all of it; `ValueError` where there is no guard."""
    path = folder / FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["version"] != VERSION:
            raise ValueError(
                f"{path} is of version {raw['version']}, and this program reads {VERSION}"
            )
        saved = Saved.from_dict(raw)
    except FileNotFoundError as error:
        hint = ": palate guard train calibrates the run" if (folder / MODEL).is_dir() else ""
        raise ValueError(f"there is no guard in {folder} (no {FILE}){hint}") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): run palate guard train again") from error
    if model_hash(folder) != saved.model_sha256:
        raise ValueError(
            f"the model in {folder} is not the one that {path} was calibrated with: run "
            "palate guard train again"
        )
    return saved, raw


def model_hash(folder: Path) -> str:
    """Hash of the model's manifest, which holds the hash of every file of it."""
    manifest = folder / MODEL / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"there is no trained model in {folder} (no {MODEL}/{MANIFEST})")
    return file_hash(manifest)


def default_recipe(data: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The recipe of a guard that learns from `data`, with `key=value` settings over it."""
    raw = {**_RECIPE, "data": {**_RECIPE["data"], "path": data}}
    return build_config(apply_overrides(raw, overrides), "the guard's recipe")


def check_recipe(config: RunConfig) -> None:
    """Raise `ConfigError` for a recipe that gives no classifier, or nothing to calibrate on."""
    from palate.losses.registry import find

    if config.stages:
        raise ConfigError("a guard is trained in one stage: leave out `stages`")
    method, _ = find(config.method)
    if method.head != "scalar" or not method.prompts:
        raise ConfigError(
            f"method {method.name} gives no P(unsafe): a guard needs method=classifier"
        )
    if config.data.heldout == 0 and config.data.heldout_values is None:
        raise ConfigError(
            "a guard is calibrated on rows that it was not trained on: set data.heldout above 0"
        )
