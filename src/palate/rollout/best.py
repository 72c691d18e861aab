"""Best of n: sample n answers to each prompt and keep the one that the judge likes best.

It needs no training, and is what trained models are measured against: the distribution of the best
of n is at most ln n − (n − 1)/n nats from the model's own (equal where no two answers earn the
same; Beirami et al. 2024, arXiv 2401.01879).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from palate.generate.sampling import Sampling, sample
from palate.judge.opinion import Answered, Score, Scorer
from palate.model.policy import Policy
from palate.records import Example
from palate.tokens.render import Renderer, Unusable

_PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt, its answers, and their scores; an answer whose judge failed has none."""

    example: Example
    texts: tuple[str, ...]
    finished: tuple[bool, ...]
    scores: tuple[Score, ...]

    @property
    def ranked(self) -> list[int]:
        """The judged answers, best first; of equal ones the first drawn."""
        known = [i for i, score in enumerate(self.scores) if score.value is not None]
        return sorted(known, key=lambda i: -(self.scores[i].value or 0.0))


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the prompts of which at least one answer was judged.

    `one` is the expected score of a single answer, `best` that of the best of n; `bound` is how far
    the best of n is from the model at most, in nats. `failed` counts answers without a score,
    `left_out` prompts without any or that could not be asked.
    """

    prompts: int
    n: int
    one: float | None
    best: float | None
    bound: float
    passed_one: float | None
    passed_best: float | None
    failed: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON-ready mapping."""
        return asdict(self)


def kl_bound(n: int) -> float:
    """ln n − (n − 1)/n, in nats."""
    return math.log(n) - (n - 1) / n


def best_of(
    policy: Policy,
    renderer: Renderer,
    examples: Sequence[Example],
    scorer: Scorer,
    sampling: Sampling,
    n: int,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[list[Judged], int]:
    """`n` judged answers to each prompt, and the number of prompts that could not be asked.

    Raises as the judge does, `JudgeStopped` among others.
    """
    asked: list[tuple[Example, list[int]]] = []
    for example in examples:
        try:
            asked.append((example, list(renderer.asked(example).prompt_ids)))
        except Unusable:
            continue
    found: list[Judged] = []
    for begin in range(0, len(asked), _PROMPTS_AT_ONCE):
        part = asked[begin : begin + _PROMPTS_AT_ONCE]
        drawn = sample(
            policy,
            [ids for _, ids in part],
            Sampling(
                sampling.max_new_tokens,
                sampling.temperature,
                sampling.top_k,
                (*_seed(sampling), begin),
            ),
            end_ids=tuple(renderer.end_ids),
            n=n,
        )
        answers = [
            Answered(example, renderer.text(one.ids), one.finished)
            for (example, _), samples in zip(part, drawn, strict=True)
            for one in samples
        ]
        scores = scorer.score(answers)
        for place, (example, _) in enumerate(part):
            mine = slice(place * n, (place + 1) * n)
            texts = tuple(one.text for one in answers[mine])
            ends = tuple(one.finished for one in answers[mine])
            found.append(Judged(example, texts, ends, tuple(scores[mine])))
        advance(len(part))
    return found, len(examples) - len(asked)


def _seed(sampling: Sampling) -> tuple[int, ...]:
    return sampling.seed if isinstance(sampling.seed, tuple) else (sampling.seed,)


def summarise(found: Iterable[Judged], n: int, unasked: int) -> Summary:
    """What the choice gains."""
    every = list(found)
    judged = [one for one in every if one.ranked]
    means = [fmean(one.scores[i].value or 0.0 for i in one.ranked) for one in judged]
    bests = [one.scores[one.ranked[0]].value or 0.0 for one in judged]
    passed = [[one.scores[i].passed for i in one.ranked] for one in judged]
    known = bool(passed) and all(p is not None for row in passed for p in row)
    return Summary(
        prompts=len(judged),
        n=n,
        one=fmean(means) if means else None,
        best=fmean(bests) if bests else None,
        bound=kl_bound(n),
        passed_one=fmean(fmean(bool(p) for p in row) for row in passed) if known else None,
        passed_best=fmean(bool(row[0]) for row in passed) if known else None,
        failed=sum(score.value is None for one in every for score in one.scores),
        left_out=unasked + len(every) - len(judged),
    )


def demonstrations(found: Iterable[Judged]) -> list[str]:
    """The best answers as JSONL rows of prompt and completion, for sft."""
    return [
        _row(one, completion=one.texts[one.ranked[0]], score=one.scores[one.ranked[0]].value)
        for one in found
        if one.ranked and one.texts[one.ranked[0]]
    ]


def pairs(found: Iterable[Judged]) -> list[str]:
    """Best against worst as JSONL rows, where their scores differ."""
    rows = []
    for one in found:
        ranked = one.ranked
        if len(ranked) < 2 or one.scores[ranked[0]].value == one.scores[ranked[-1]].value:
            continue
        if one.texts[ranked[0]] and one.texts[ranked[-1]]:
            rows.append(_row(one, chosen=one.texts[ranked[0]], rejected=one.texts[ranked[-1]]))
    return rows


def _row(one: Judged, **answers: Any) -> str:
    told = {name: _spoken(said) for name, said in answers.items()}
    prompt = [message.to_dict() for message in one.example.prompt]
    return json.dumps({"prompt": prompt, **told}, ensure_ascii=False)


def _spoken(said: Any) -> Any:
    return [{"role": "assistant", "content": said}] if isinstance(said, str) else said
