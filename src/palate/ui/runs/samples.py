"""What the model says: fixed prompts before and after, and the rollouts of an online run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from palate.evaluate.runfolder import RunFiles, number
from palate.evaluate.samples import one_system, prompts
from palate.evaluate.wording import clean, compact, plural
from palate.ui.pages import NotThere

_STEP = re.compile(r"step-(\d{1,18})\.jsonl")
PROMPTS = 16
"""Prompts of a rollout that are shown."""
_LONGEST = 2**24  # bytes of a rollout's file that are read


def fixed_prompts(run: RunFiles, limit: int | None = None) -> dict[str, Any]:
    """Held-out prompts with the answers before training and after, as far as they are there."""
    shown, total = prompts(run)
    return {
        "prompts": [asdict(one) for one in shown[:limit]],
        "system": one_system(shown),
        "total": total,
        "after": any(one.after for one in shown),
    }


def rollout_steps(folder: Path) -> list[int]:
    """The steps before which an online run drew answers."""
    try:
        names = [path.name for path in (folder / "rollouts").iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _STEP.fullmatch(name)))


def rollout(folder: Path, step: int) -> list[dict[str, Any]]:
    """The first prompts of the rollout before `step`, with all their answers.

    Raises `NotThere` where there is none.
    """
    if step not in rollout_steps(folder):
        raise NotThere(f"no rollout was kept for step {step}")
    try:
        with (folder / "rollouts" / f"step-{step}.jsonl").open("rb") as file:
            lines = file.read(_LONGEST).split(b"\n")
    except OSError:
        raise NotThere(f"the rollout of step {step} cannot be read") from None
    return list(islice((row for raw in lines if (row := _group(raw)) is not None), PROMPTS))


def _group(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
        messages = [(clean(str(m["role"])), _words(m.get("content"))) for m in found["prompt"]]
        answers = [_answer(one) for one in found["answers"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not messages:
        return None
    return {
        "asked": messages[-1][1],
        "earlier": [list(one) for one in messages[:-1]],
        "answers": sorted(answers, key=lambda one: -(one["reward"] or 0.0)),
    }


def _answer(one: Mapping[str, Any]) -> dict[str, Any]:
    reward = number(one, "reward")
    size = plural(number(one, "tokens") or 0, "token")
    size += "" if one.get("finished") else ", cut at the limit"
    if "failure" in one:
        said = f"the judge failed: {one['failure']}"
    else:
        said = "not judged" if reward is None else f"reward {compact(reward)}"
    passed = one.get("passed")
    return {
        "text": _words(one["text"]),
        "reward": reward,
        "passed": passed if isinstance(passed, bool) else None,
        "verdict": clean(said),
        "size": size,
        "origin": clean(str(one.get("origin", "own"))),
    }


def _words(content: Any) -> str:
    return clean(content if isinstance(content, str) else orjson.dumps(content).decode())
