"""Sampled answers before and after training, and what their comparison says.

`samples.jsonl` holds one `Answer` a line; `summarise` makes of them the `Comparison`
that results.json keeps and the report shows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from palate.evaluate.counting import words_of
from palate.evaluate.intervals import Interval, cluster_mean
from palate.evaluate.shares import compare_shares
from palate.judge.rules import RuleResult
from palate.records import Message

Stage = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer.

    `group` is the prompt's key (`Example.prompt_key`), `tokens` counts the sampled tokens,
    `finished` says that the model ended the answer itself, `kl` is the sum over the
    answer's tokens of log pi - log pi_ref in nats (None where it was not measured).
    """

    prompt: tuple[Message, ...]
    group: str
    text: str
    tokens: int
    finished: bool
    stage: Stage
    result: RuleResult | None = None
    kl: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The line of samples.jsonl; a KL that is not a number is written as null."""
        kl = self.kl if self.kl is not None and math.isfinite(self.kl) else None
        return {
            "stage": self.stage,
            "group": self.group,
            "prompt": [message.to_dict() for message in self.prompt],
            "text": self.text,
            "tokens": self.tokens,
            "finished": self.finished,
            "result": asdict(self.result) | {"failed": list(self.result.failed)}
            if self.result
            else None,
            "kl": kl,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Answer:
        """Inverse of `to_dict`."""
        found = raw.get("result")
        return cls(
            prompt=tuple(Message.from_dict(message) for message in raw["prompt"]),
            group=raw["group"],
            text=raw["text"],
            tokens=raw["tokens"],
            finished=raw["finished"],
            stage=raw["stage"],
            result=RuleResult(found["passed"], found["score"], tuple(found["failed"]))
            if found
            else None,
            kl=raw.get("kl"),
        )


@dataclass(frozen=True, slots=True)
class StageSummary:
    """The answers of one stage. Lengths are means per answer; shares lie in [0, 1].

    `share` of answers that pass the rule with its 95 % interval, mean `score`, and `failed`:
    the share of all answers that failed each part. None without a rule. `distinct_2` is None
    when no answer has two words.
    """

    answers: int
    tokens: float
    words: float
    finished: float
    distinct_2: float | None
    share: float | None = None
    interval: Interval | None = None
    score: float | None = None
    failed: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Before against after, over the prompts that were answered in both stages.

    `difference` is the after share minus the before share (0.74 is 74 points), with its 95 %
    interval; `method` says in words how the intervals were computed. `tokens_change` and
    `words_change` are relative (0.03 is 3 % longer). `kl` is in nats per answer, over the
    answers after training, with its standard error (clustered by prompt). `left_out` counts
    prompts that only one stage answered.
    """

    prompts: int
    left_out: int
    before: StageSummary
    after: StageSummary
    difference: float | None
    difference_interval: Interval | None
    method: str | None
    tokens_change: float | None
    words_change: float | None
    kl: float | None
    kl_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """The value of `comparison` in results.json: plain JSON, without nan."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def summarise(before: Sequence[Answer], after: Sequence[Answer], seed: int = 0) -> Comparison:
    """Compare the answers to the same prompts before and after training.

    Prompts answered in one stage only are left out and counted. Rule fields are None unless
    every remaining answer was scored. Intervals: see `shares.compare_shares`; `seed` decides
    the bootstrap's draws. Raises `ValueError` if no prompt was answered in both stages.
    """
    was, now = _by_prompt(before), _by_prompt(after)
    left_out = len(set(was) ^ set(now))
    groups = [group for group in was if group in now]
    if not groups:
        raise ValueError("no prompt was answered both before and after training")
    was, now = {g: was[g] for g in groups}, {g: now[g] for g in groups}
    old, new = _flat(was.values()), _flat(now.values())
    # Longer or more numerous text repeats itself more, so both sides give equally many answers.
    even = {g: min(len(was[g]), len(now[g])) for g in groups}
    old_distinct = distinct_2(_flat(was[g][: even[g]] for g in groups))
    new_distinct = distinct_2(_flat(now[g][: even[g]] for g in groups))
    left, right = _summary(old, old_distinct), _summary(new, new_distinct)
    difference: float | None = None
    difference_in: Interval | None = None
    method: str | None = None
    if all(answer.result is not None for answer in old + new):
        found = compare_shares(_passes(was), _passes(now), seed)
        left = _judged(left, old, found.before)
        right = _judged(right, new, found.after)
        difference_in, method = found.difference, found.method
        difference = found.points
    kl, kl_error = _kl(now)
    return Comparison(
        prompts=len(groups),
        left_out=left_out,
        before=left,
        after=right,
        difference=difference,
        difference_interval=difference_in,
        method=method,
        tokens_change=_change(left.tokens, right.tokens),
        words_change=_change(left.words, right.words),
        kl=kl,
        kl_error=kl_error,
    )


def distinct_2(answers: Iterable[Answer]) -> float | None:
    """Different word pairs over all word pairs, pooled over the answers (Li et al. 2016).

    Words are those of `counting.words_of`; no pair spans two answers. 1 means that nothing is
    ever said twice. None if there is no pair at all.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        words = words_of(answer.text)
        pairs.update(pairwise(words))
    total = pairs.total()
    return len(pairs) / total if total else None


def _by_prompt(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    groups: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.group].append(answer)
    return dict(groups)


def _flat(groups: Iterable[list[Answer]]) -> list[Answer]:
    return [answer for group in groups for answer in group]


def _passes(groups: dict[str, list[Answer]]) -> list[list[bool]]:
    return [[a.result is not None and a.result.passed for a in group] for group in groups.values()]


def _summary(answers: list[Answer], distinct: float | None) -> StageSummary:
    return StageSummary(
        answers=len(answers),
        tokens=_mean(a.tokens for a in answers),
        words=_mean(len(words_of(a.text)) for a in answers),
        finished=_mean(a.finished for a in answers),
        distinct_2=distinct,
    )


def _judged(summary: StageSummary, answers: list[Answer], interval: Interval) -> StageSummary:
    results = [a.result for a in answers if a.result is not None]
    failed = Counter(part for result in results for part in set(result.failed))
    return replace(
        summary,
        share=_mean(r.passed for r in results),
        interval=interval,
        score=_mean(r.score for r in results),
        failed={part: count / len(results) for part, count in sorted(failed.items())},
    )


def _kl(groups: dict[str, list[Answer]]) -> tuple[float | None, float | None]:
    measured = [
        [a.kl for a in group if a.kl is not None and math.isfinite(a.kl)]
        for group in groups.values()
    ]
    measured = [values for values in measured if values]
    if not measured:
        return None, None
    sums, counts = [sum(v) for v in measured], [len(v) for v in measured]
    mean, error = cluster_mean(np.array(sums, dtype=float), np.array(counts, dtype=float))
    return mean, error if math.isfinite(error) else None


def _mean(values: Iterable[float]) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def _change(old: float, new: float) -> float | None:
    return new / old - 1 if old else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
