"""Reads a run's folder, whatever of it is there.

A report is wanted most when something went wrong, so nothing here raises because a
file is missing, half written or of another shape: what cannot be read is named in
`RunFiles.unread`, and the report says "not measured" in its place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from palate.evaluate.answers import Answer

Table = Mapping[str, Any]
EVALUATION = "evaluation/report.json"
"""Where `palate eval` writes what it measured."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run wrote. `train`, `heldout` and `rollouts` are metric lines in order of step.

    `unread` holds one sentence for each file or line that could not be read.
    """

    folder: Path
    config: Table
    config_text: str
    environment: Table
    train: tuple[Table, ...]
    heldout: tuple[Table, ...]
    rollouts: tuple[Table, ...]
    answers: tuple[Answer, ...]
    results: Table
    manifest: Table
    evaluation: Table
    unread: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What a held-out example is: a pair, or an answer with a thumb."""
        return "answer" if self.results.get("data") == "labelled" else "pair"


def read_run(folder: Path, lines: Sequence[Table] | None = None) -> RunFiles:
    """Read whatever a run wrote into `folder`.

    That is config.yaml, environment.json, metrics.jsonl, samples.jsonl, results.json and
    snapshot/manifest.json, and evaluation/report.json where there is one; samples.jsonl is not
    missed where the results compare no answers. `lines` are those of metrics.jsonl, where they
    have been read already.
    Raises `ValueError` if there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a run's folder: there is no such folder")
    unread: list[str] = []
    config_text = _text(folder / "config.yaml", unread)
    metrics = _lines(folder / "metrics.jsonl", unread) if lines is None else lines
    results = _json(folder / "results.json", unread)
    answers, evaluation = folder / "samples.jsonl", folder / EVALUATION
    sampled = answers.exists() or results.get("comparison", ...) is not None
    return RunFiles(
        folder=folder,
        config=_yaml(config_text, unread),
        config_text=config_text,
        environment=_json(folder / "environment.json", unread),
        train=_by_step(line for line in metrics if line.get("kind") == "train"),
        heldout=_by_step(line for line in metrics if line.get("kind") == "heldout"),
        rollouts=_by_step(line for line in metrics if line.get("kind") == "rollout"),
        answers=_answers(answers, unread) if sampled else (),
        results=results,
        manifest=_json(folder / "snapshot" / "manifest.json", unread),
        evaluation=_json(evaluation, unread) if evaluation.exists() else {},
        unread=tuple(unread),
    )


def section(table: Table, *path: str) -> Table:
    """The mapping found by following `path`, or an empty one."""
    here: object = table
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def number(table: Table, *path: str) -> float | None:
    """The finite number found by following `path`, or None."""
    found = section(table, *path[:-1]).get(path[-1])
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        value = float(found)
    except OverflowError:  # JSON knows integers of any size
        return None
    return value if math.isfinite(value) else None


def interval(table: Table, *path: str) -> tuple[float, float] | None:
    """The pair of finite numbers found by following `path`, or None."""
    found = section(table, *path[:-1]).get(path[-1])
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    low, high = (number({"bound": bound}, "bound") for bound in found)
    return None if low is None or high is None else (low, high)


def _text(path: Path, unread: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        unread.append(f"{path.name} is missing")
    except OSError as error:
        unread.append(f"{path.name} cannot be read: {error.strerror}")
    return ""


def _yaml(text: str, unread: list[str]) -> Table:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that is none
        unread.append("config.yaml is not valid YAML")
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path, unread: list[str]) -> Table:
    text = _text(path, unread)
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # brackets in brackets by the thousand
        unread.append(f"{path.name} is not valid JSON")
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path, unread: list[str]) -> list[Table]:
    good: list[Table] = []
    broken = 0
    for line in _text(path, unread).split("\n"):  # splitlines would cut at U+2028 in a text
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            good.append(found)
        else:
            broken += 1
    if broken:
        unread.append(f"{path.name}: {broken} lines cannot be read")
    return good


def _by_step(lines: Iterable[Table]) -> tuple[Table, ...]:
    """A resumed run repeats the steps after its checkpoint: the last line of a step counts."""
    steps = {step: line for line in lines if (step := number(line, "step")) is not None}
    return tuple(steps[step] for step in sorted(steps))


def _answers(path: Path, unread: list[str]) -> tuple[Answer, ...]:
    answers: list[Answer] = []
    odd = 0
    for line in _lines(path, unread):
        try:
            answer = Answer.from_dict(dict(line))
        except (KeyError, TypeError, AttributeError):
            odd += 1
            continue
        if _sound(answer):
            answers.append(answer)
        else:
            odd += 1
    if odd:
        unread.append(f"{path.name}: {odd} lines are not answers")
    return tuple(answers)


def _sound(answer: Answer) -> bool:
    """Whether the values read from a file have the types that the record promises."""
    texts = [answer.group, answer.text, answer.stage, *(m.role for m in answer.prompt)]
    if answer.result is not None:
        texts += answer.result.failed
    return all(isinstance(text, str) for text in texts)
