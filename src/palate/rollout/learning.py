"""What is learned from judged answers: all of them, the best against the worst, or the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from palate.losses.method import Method
from palate.rollout.rows import Group, Lesson, Spoken
from palate.sections.rollout import RolloutConfig
from palate.tokens.render import Rendered


def lessons(
    groups: Sequence[Group], method: Method, config: RolloutConfig
) -> tuple[list[Lesson], Counter[str]]:
    """Examples of the method's shape, and why groups or answers gave none."""
    left: Counter[str] = Counter()
    found: list[Lesson] = []
    for group in groups:
        if method.shape == "sample":
            found += _samples(group, method, left)
        elif method.shape == "pair":
            found += _pairs(group, method, config, left)
        else:
            found += _best(group, config, left)
    return found, left


def spread(group: Group) -> bool:
    """Whether its answers earned different rewards."""
    return len({s.reward for s in group.own if s.reward is not None}) > 1


def _samples(group: Group, method: Method, left: Counter[str]) -> list[Lesson]:
    judged = _judged(group.own, left)
    assert method.online is not None, "the method samples"
    if len(judged) < method.online.least:
        left["too few answers"] += len(judged)
        return []
    return [_lesson(group, [one], {"reward": _reward(one)}) for one in judged]


def _pairs(group: Group, method: Method, config: RolloutConfig, left: Counter[str]) -> list[Lesson]:
    assert method.online is not None, "the method samples"
    if method.online.against == "demonstration":
        (shown,) = group.others
        return [_lesson(group, [shown, one], {}) for one in group.own if _differ(shown, one, left)]
    judged = _judged([*group.own, *group.others], left)
    if method.online.against == "reference":
        return _each_with_the_reference(group, config, left)
    if len(judged) < 2:
        left["too few answers"] += len(judged)
        return []
    best, worst = max(judged, key=_reward), min(judged, key=_reward)
    return _pair(group, best, worst, config, left)


def _each_with_the_reference(
    group: Group, config: RolloutConfig, left: Counter[str]
) -> list[Lesson]:
    """The policy's answer k and the reference's answer k, the better one chosen."""
    found = []
    for one, other in zip(group.own, group.others, strict=True):
        if one.reward is not None and other.reward is not None:
            best, worst = (one, other) if one.reward >= other.reward else (other, one)
            found += _pair(group, best, worst, config, left)
    return found


def _pair(
    group: Group, best: Spoken, worst: Spoken, config: RolloutConfig, left: Counter[str]
) -> list[Lesson]:
    gap = _reward(best) - _reward(worst)
    if gap <= 0 or gap < config.min_gap:
        left["ties"] += 1
        return []
    if not _differ(best, worst, left):
        return []
    told = {
        "wins_chosen": _reward(best),
        "wins_rejected": _reward(worst),
        "reference_chosen": float(best.origin == "reference"),
    }
    return [_lesson(group, [best, worst], told)]


def _best(group: Group, config: RolloutConfig, left: Counter[str]) -> list[Lesson]:
    judged = _judged(group.own, left)
    if not judged:
        return []
    best = max(judged, key=_reward)
    if config.passing and not best.passed:
        left["none passed"] += 1
        return []
    return [_lesson(group, [best], {})]


def _judged(answers: Sequence[Spoken], left: Counter[str]) -> list[Spoken]:
    judged = [one for one in answers if one.reward is not None]
    left["judge failed"] += len(answers) - len(judged)
    return judged


def _differ(one: Spoken, other: Spoken, left: Counter[str]) -> bool:
    if list(one.branch.ids) != list(other.branch.ids):
        return True
    left["equal answers"] += 1
    return False


def _reward(one: Spoken) -> float:
    assert one.reward is not None, "only judged answers are learned from"
    return one.reward


def _lesson(group: Group, answers: Sequence[Spoken], told: dict[str, float]) -> Lesson:
    branches = tuple(one.branch for one in answers)
    example = group.example
    rendered = Rendered(example.id, group.prompt_length, branches, example.conversation, told=told)
    logps = answers[0].logps if len(answers) == 1 else ()
    return Lesson(group.row, rendered, logps)


def with_columns(lesson: Lesson, columns: Mapping[str, Tensor]) -> Lesson:
    """The lesson with values by token."""
    return replace(lesson, rendered=replace(lesson.rendered, columns=columns))
