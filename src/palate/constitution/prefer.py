"""Preferences under principles: two answers to a prompt, and a judge that compares them.

RLAIF (Lee et al. 2023, arXiv 2309.00267) and the second half of Constitutional AI (Bai et al. 2022,
arXiv 2212.08073, section 4): a principle is drawn for each prompt, the judge is asked under it in
both orders, and P(first is better) is the mean; over several principles, the mean of these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pydantic import Field

from palate.constitution.gates import same
from palate.constitution.principles import Constitution, Principle, draw
from palate.judge.opinion import Opinion, PairJudge, Question
from palate.records import Example, digest
from palate.resumable import Row, RowLog
from palate.sections import JudgeConfig
from palate.speak.settings import AskSettings
from palate.speak.speaker import Manner, Reply, Speaker


class PrincipledJudge(Protocol):
    """A judge of pairs that can be told by what to judge."""

    name: str

    def with_rubric(self, rubric: str) -> PairJudge:
        """The same judge under another rubric."""
        ...


class PreferSettings(AskSettings):
    """What the command line can say.

    `average` principles are drawn for a prompt; a pair whose P is nearer to one half than `least`
    is a tie.
    """

    average: int = Field(1, ge=1)
    least: float = Field(0.05, ge=0, lt=0.5)
    only: tuple[str, ...] = ()
    judge: JudgeConfig | None = None
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class PreferPlan:
    """What decides the preferences beside model, judge, constitution and prompts."""

    average: int = 1
    least: float = 0.05
    manner: Manner = field(default_factory=Manner)
    group: int = 16


@dataclass(slots=True)
class Preferences:
    """What came of the prompts: `left_out` by reason, ties among them."""

    prompts: int = 0
    pairs: int = 0
    sampled: int = 0
    strength: float | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> Row:
        """As JSON; `strength` is the mean over pairs, in (½, 1]."""
        numbers = ("prompts", "pairs", "sampled", "strength")
        return {name: getattr(self, name) for name in numbers} | {"left_out": dict(self.left_out)}


def preferences(
    prompts: Sequence[Example],
    speaker: Speaker | None,
    judge: PrincipledJudge,
    constitution: Constitution,
    plan: PreferPlan,
    path: Path,
    *,
    judged_by: str,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Row]:
    """One row for each prompt, in order, as they stand in the log at `path`.

    A prompt that came with two answers keeps its first two; another gets two of `speaker`'s, or
    is left out under ``one-answer``. A row holds both answers, each principle's opinion, `p` =
    P(first is better), or the `reason` why there is none. The log goes on where a kill left it;
    `judged_by` identifies the judge there.
    """
    settings = {
        "kind": "prefer",
        "model": speaker.name if speaker else None,
        "judge": judged_by,
        "constitution": constitution.hash,
        "prompts": digest([[e.prompt_key, [c.text for c in e.completions]] for e in prompts])[:12],
        **asdict(plan),
    }
    groups = [prompts[at : at + plan.group] for at in range(0, len(prompts), plan.group)]
    with RowLog(path, settings, [len(group) for group in groups]) as log:
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done > len(log.rows):
                rows = _answered(group, number, speaker, plan)
                _judge(rows, group, judge, constitution, plan)
                log.append(rows)
                advance(len(group))
        return log.rows


def _answered(
    group: Sequence[Example], number: int, speaker: Speaker | None, plan: PreferPlan
) -> list[Row]:
    """A row for each prompt with its two answers, or the reason why it has none."""
    lacking = [example for example in group if len(example.completions) < 2]
    sampled: dict[str, tuple[Reply, Reply]] = {}
    if lacking and speaker is not None:
        seed = int(digest([plan.manner.seed, "prefer", number])[:12], 16)
        asked = [example.prompt for example in lacking for _ in range(2)]
        replies = speaker.ask(asked, replace(plan.manner, seed=seed))
        pairs = zip(replies[::2], replies[1::2], strict=True)
        sampled = {e.prompt_key: pair for e, pair in zip(lacking, pairs, strict=True)}
    rows = []
    for example in group:
        pair = sampled.get(example.prompt_key)
        reason, texts = None, [completion.text for completion in example.completions[:2]]
        if pair is not None:
            texts, reason = [reply.text for reply in pair], _unusable(pair)
        elif len(texts) < 2:
            reason = "one-answer"
        if reason is None and same(*texts):
            reason = "equal-answers"
        rows.append(
            {
                "key": example.prompt_key,
                "prompt": [m.to_dict() for m in example.prompt],
                "tags": example.tags,
                "answers": texts,
                "sampled": pair is not None,
                "opinions": [],
                "p": None,
                "reason": reason,
            }
        )
    return rows


def _unusable(pair: tuple[Reply, Reply]) -> str | None:
    for reply in pair:
        if reply.failure is not None:
            return reply.failure
        if not reply.text:
            return "empty"
        if not reply.finished:
            return "truncated"
    return None


def _judge(
    rows: list[Row],
    group: Sequence[Example],
    judge: PrincipledJudge,
    constitution: Constitution,
    plan: PreferPlan,
) -> None:
    """Put the opinions into the rows; the judge is asked once for each principle."""
    asked: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row["reason"] is None:
            for principle in _drawn(constitution, row["key"], plan):
                asked[principle.id].append(place)
    for name, places in asked.items():
        under = judge.with_rubric(rubric(constitution.of(name)))
        questions = [Question(group[i], *rows[i]["answers"]) for i in places]
        for place, opinion in zip(places, under.compare(questions), strict=True):
            rows[place]["opinions"].append(_plain(name, opinion))
    for row in rows:
        if row["reason"] is None:
            known = [one["p"] for one in row["opinions"] if one["p"] is not None]
            row["p"] = sum(known) / len(known) if known else None
            if row["p"] is None:
                row["reason"] = "judge-failed"
            elif abs(row["p"] - 0.5) < plan.least or row["p"] == 0.5:
                row["reason"] = "tie"


def rubric(principle: Principle) -> str:
    """What the judge is told makes an answer good."""
    return f"Judge by this question alone: {principle.compare}"


def _drawn(constitution: Constitution, key: str, plan: PreferPlan) -> list[Principle]:
    number = min(plan.average, len(constitution.principles))
    return draw(constitution.principles, number, seed=plan.manner.seed, prompt=key, use="prefer")


def _plain(name: str, opinion: Opinion) -> Row:
    return {
        "principle": name,
        "p": opinion.first_wins,
        "raw": list(opinion.raw),
        "failure": opinion.failure,
    }


def preferred(
    rows: Sequence[Row], constitution: Constitution, model: str | None, judged_by: str
) -> Iterator[Row]:
    """TRL rows `{prompt, chosen, rejected, strength, metadata}` of what the judge could tell apart.

    `strength` is P(chosen is better), in (½, 1].
    """
    for row in rows:
        if row["reason"] is None:
            first = row["p"] > 0.5
            better, worse = row["answers"] if first else row["answers"][::-1]
            told = [one["principle"] for one in row["opinions"] if one["p"] is not None]
            yield {
                "prompt": row["prompt"],
                "chosen": [{"role": "assistant", "content": better}],
                "rejected": [{"role": "assistant", "content": worse}],
                "strength": max(row["p"], 1 - row["p"]),
                "metadata": {
                    **row["tags"],
                    "constitution": f"{constitution.name}@{constitution.hash}",
                    "principles": ", ".join(told),
                    "judged_by": judged_by,
                    "answers_from": model if row["sampled"] else "file",
                },
            }


def summarise(rows: Sequence[Row]) -> Preferences:
    """Count the pairs, and what was left out under which reason."""
    kept = [max(row["p"], 1 - row["p"]) for row in rows if row["reason"] is None]
    return Preferences(
        prompts=len(rows),
        pairs=len(kept),
        sampled=sum(row["sampled"] for row in rows),
        strength=sum(kept) / len(kept) if kept else None,
        left_out=Counter(row["reason"] for row in rows if row["reason"] is not None),
    )
