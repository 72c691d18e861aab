"""Pairs out of thumbs and scores: the answers that one prompt got, ranked against each other.

Rows belong together if their prompt and tools are equal. Of each such group:

- a pair that the file already ranks passes through;
- answers with thumbs, of which an answer's majority counts: ups and downs, each with its best
  first (most votes, then score, then a fixed order by content), are matched one to one, so that no
  answer is used twice;
- answers with scores and no thumb: the best against the worst, if the gap is large enough.

Which answers meet never depends on the order of the rows, only the order of the pairs does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from palate.curate.rejects import OnReject, reject
from palate.records import Completion, Example, Verdict


@dataclass(slots=True)
class _Answer:
    """One distinct answer to a prompt, with every row that gave it."""

    completion: Completion
    rows: list[Example] = field(default_factory=list)
    labels: Counter[bool] = field(default_factory=Counter)
    scores: list[float] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.completion.content_key

    @property
    def score(self) -> float:
        return sum(self.scores) / len(self.scores) if self.scores else 0.0

    @property
    def settled(self) -> Completion:
        """The completion with the majority's thumb and the mean score, not those of one row."""
        ups, downs = self.labels[True], self.labels[False]
        label = None if ups == downs else ups > downs
        return replace(self.completion, label=label, score=self.score if self.scores else None)


def group_by_prompt(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples with equal prompt and tools, groups in the order of first appearance."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.prompt_key, []).append(example)
    return groups


def make_pairs(
    examples: Iterable[Example], on_reject: OnReject, *, min_gap: float = 0.0
) -> list[Example]:
    """One pair for each match of answers to the same prompt; see the module for the rule.

    `min_gap` is the smallest difference of scores that counts as a preference; equal scores
    never do. Rejects: ``no-contrast`` (only ups, or only downs), ``tie`` and ``small-gap``
    (scores), ``contradictory`` (the same answer got as many thumbs up as down), ``no-feedback``,
    once per prompt that gave no pair; ``unmatched-answer`` for each answer left over beside a
    pair. An answer that the file, or the traffic, has ranked already is not left out.
    """
    pairs: list[Example] = []
    for rows in group_by_prompt(examples).values():
        ranked = [row for row in rows if row.verdict is not None]
        answers = _answers(row for row in rows if row.verdict is None)
        made = _by_thumb(answers) + _by_score(answers, min_gap)
        pairs += ranked + [_pair(better, worse, by) for better, worse, by in made]
        used = {answer.key for better, worse, _ in made for answer in (better, worse)}
        used |= {answer.content_key for row in ranked for answer in (row.chosen, row.rejected)}
        unused = [answer for answer in answers if answer.key not in used]
        if not made and unused:
            on_reject(reject(_merged(unused), *_why_none(unused)))
        for answer in unused if made else []:
            on_reject(reject(_merged([answer]), "unmatched-answer", _why_left(answer)))
    return pairs


def _answers(rows: Iterable[Example]) -> list[_Answer]:
    found: dict[str, _Answer] = {}
    for row in rows:
        for completion in row.completions:
            answer = found.setdefault(completion.content_key, _Answer(completion))
            answer.rows.append(row)
            if completion.label is not None:
                answer.labels[completion.label] += 1
            if completion.score is not None:
                answer.scores.append(completion.score)
    return list(found.values())


def _by_thumb(answers: Sequence[_Answer]) -> list[tuple[_Answer, _Answer, str]]:
    ups = [a for a in answers if a.labels[True] > a.labels[False]]
    downs = [a for a in answers if a.labels[False] > a.labels[True]]
    ups.sort(key=lambda a: (-a.labels[True], -a.score, a.key))
    downs.sort(key=lambda a: (-a.labels[False], a.score, a.key))
    return [(up, down, "thumbs") for up, down in zip(ups, downs, strict=False)]


def _by_score(answers: Sequence[_Answer], min_gap: float) -> list[tuple[_Answer, _Answer, str]]:
    scored = [a for a in answers if a.scores and not a.labels]
    if not scored:
        return []
    best = min(scored, key=lambda a: (-a.score, a.key))
    worst = min(scored, key=lambda a: (a.score, a.key))
    gap = best.score - worst.score
    return [(best, worst, "score")] if gap > 0 and gap >= min_gap else []


def _pair(better: _Answer, worse: _Answer, by: str) -> Example:
    """Both answers under one prompt; tags and provenance of both, the better one's first."""
    first = better.rows[0]
    rows = better.rows + worse.rows
    tags: dict[str, str] = {}
    for row in reversed(rows):
        tags |= row.tags
    strength = better.score - worse.score if by == "score" else None
    return replace(
        first,
        completions=(better.settled, worse.settled),
        verdict=Verdict(0, 1, by=by, strength=strength),
        tags=tags,
        provenance=tuple(dict.fromkeys(p for row in rows for p in row.provenance)),
    )


def _merged(answers: Sequence[_Answer]) -> Example:
    """The answers' rows as one example without verdict, to say where they stood."""
    rows = [row for answer in answers for row in answer.rows]
    return replace(
        rows[0],
        completions=tuple(answer.completion for answer in answers),
        provenance=tuple(dict.fromkeys(p for row in rows for p in row.provenance)),
    )


def _why_left(answer: _Answer) -> str:
    if answer.scores and not answer.labels:
        return "only the best and the worst score make a pair"
    return "no answer of the other kind is left to set against this one"


def _why_none(answers: Sequence[_Answer]) -> tuple[str, str]:
    if any(a.labels and a.labels[True] == a.labels[False] for a in answers):
        return "contradictory", "the same answer got as many thumbs up as down"
    if any(a.labels for a in answers):
        side = "up" if any(a.labels[True] for a in answers) else "down"
        return "no-contrast", f"the answers to this prompt have only thumbs {side}"
    scored = [a.score for a in answers if a.scores]
    if scored[1:]:
        gap = max(scored) - min(scored)
        if gap == 0:
            return "tie", "the answers to this prompt have the same score"
        return "small-gap", f"best and worst answer differ by {gap:g} only"
    if scored:
        return "no-contrast", "only one answer to this prompt has a score"
    return "no-feedback", "no answer to this prompt has a thumb or a score"
