"""What is told of a rollout: a line of metrics.jsonl, and its answers in a file of their own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from palate.durable import write_text
from palate.rollout.learning import spread
from palate.rollout.rows import Group, Spoken
from palate.train.heldout import Each

FOLDER = "rollouts"


def line_of(
    number: int,
    groups: Sequence[Group],
    lessons: int,
    left: Counter[str],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Means over the policy's own answers; `flat` is the share of groups without spread."""
    own = [one for group in groups for one in group.own]
    judged = [group for group in groups if any(one.reward is not None for one in group.own)]
    line: dict[str, Any] = {
        "rollout": number,
        "prompts": len(groups),
        "answers": len(own),
        "lessons": lessons,
        **means(own),
        **metrics,
    }
    rewards = [one.reward for one in own if one.reward is not None]
    if rewards:
        line["reward_std"] = pstdev(rewards)
    if judged:
        line["flat"] = fmean(not spread(group) for group in judged)
    line |= {f"left_{reason.replace(' ', '_')}": n for reason, n in left.items() if n}
    return line


def means(answers: Sequence[Spoken]) -> dict[str, float]:
    """Reward, share that passed, length, share that ended, and on how many the judge failed."""
    found: dict[str, float] = {
        "length": fmean(one.tokens for one in answers),
        "ended": fmean(one.finished for one in answers),
        "failed": sum(one.failure is not None for one in answers),
    }
    rewards = [one.reward for one in answers if one.reward is not None]
    passed = [one.passed for one in answers if one.passed is not None]
    if rewards:
        found["reward"] = fmean(rewards)
    if passed:
        found["passed"] = fmean(passed)
    return found


def each_of(groups: Sequence[Group]) -> Each:
    """The reward of each prompt's answer, None where the judge failed on it."""
    ids = [group.example.id for group in groups]
    tokens = [[one.tokens for one in group.own] for group in groups]
    rewards = [group.own[0].reward for group in groups]
    return Each(ids, tokens, {"reward": rewards})


def write_groups(folder: Path, step: int, groups: Sequence[Group]) -> None:
    """`rollouts/step-N.jsonl`: each prompt with its answers and what the judge made of them."""
    rows = [
        json.dumps(
            {
                "id": group.example.id,
                "prompt": [message.to_dict() for message in group.example.prompt],
                "answers": [_told(one) for one in (*group.own, *group.others)],
            },
            ensure_ascii=False,
        )
        for group in groups
    ]
    (folder / FOLDER).mkdir(exist_ok=True)
    write_text(folder / FOLDER / f"step-{step}.jsonl", "".join(f"{row}\n" for row in rows))


def _told(one: Spoken) -> dict[str, Any]:
    told = {"origin": one.origin, "text": one.text, "tokens": one.tokens, "finished": one.finished}
    judged = {"reward": one.reward, "passed": one.passed, "failure": one.failure}
    return {**told, **{name: value for name, value in judged.items() if value is not None}}
