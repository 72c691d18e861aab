"""report.json: everything that was measured of one model beside its base, and the gate's word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palate.config import RunConfig
from palate.evaluate.answers import Answer, Comparison, Stage, summarise
from palate.evaluate.measure.answering import PromptSet, Spoken
from palate.evaluate.measure.drift import forgetting, mean_entropy, sampled_kl
from palate.evaluate.measure.gate import checks
from palate.evaluate.measure.gathering import HELDOUT, Gathered, Texts
from palate.evaluate.measure.instructions import instructions
from palate.evaluate.measure.preferences import preferences
from palate.evaluate.measure.safety import paired_share, refusals
from palate.evaluate.measure.scoring import Scored
from palate.evaluate.measure.tasks import beside
from palate.evaluate.measure.wins import duels, win_rate
from palate.evaluate.measure.words import repetition
from palate.judge.number import NumberScorer
from palate.judge.opinion import Answered, PairJudge
from palate.judge.rules import Rule
from palate.progress import Reporter

FORMAT = 1
Says = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Judges:
    """Who says what: the rule of single answers, the judge of two with its identity, refusals."""

    rule: Rule | None = None
    pair: PairJudge | None = None
    identity: str = ""
    declines: Says = lambda text: not text.strip()
    refuses: Says = lambda text: not text.strip()


@dataclass(slots=True)
class Draft:
    """One model's report while it grows: parts that are there, and why others are not."""

    parts: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, why: str) -> None:
        """Keep a part, or the reason why there is none."""
        self.parts[name] = value
        if value is None:
            self.missing[name] = why


def report_of(
    mine: Gathered,
    base: Gathered,
    base_on_mine: list[list[Scored]] | None,
    texts: Texts,
    config: RunConfig,
    judges: Judges,
    say: Reporter,
) -> dict[str, Any]:
    """The report as plain JSON; `base_on_mine` are the base's scores of the model's answers."""
    draft = Draft()
    sets = {asked.name: asked for asked in texts.sets}
    _preferences(draft, mine, base, texts)
    _sampled(draft, mine, base, base_on_mine, sets.get(HELDOUT), config, judges, say)
    rows = sorted(set(mine.demonstrations) & set(base.demonstrations))
    draft.put(
        "forgetting",
        forgetting([mine.demonstrations[r] for r in rows], [base.demonstrations[r] for r in rows]),
        "evaluate.demonstrations is none",
    )
    _fixed(draft, mine, base, texts, sets, judges)
    draft.put("tasks", beside(mine.tasks, base.tasks), "evaluate.tasks names none")
    report = {
        "format": FORMAT,
        "model": {"name": mine.candidate.name, "identity": mine.candidate.identity, **mine.facts},
        "base": {"name": base.candidate.name, "identity": base.candidate.identity},
        **draft.parts,
        "not_measured": draft.missing,
        "evaluate": config.evaluate.model_dump(mode="json"),
        "seed": config.seed,
    }
    found = checks(report, config.gate)
    report["gate"] = {
        "passed": all(check.passed for check in found),
        "checks": [check.to_dict() for check in found],
    }
    return report


def _preferences(draft: Draft, mine: Gathered, base: Gathered, texts: Texts) -> None:
    rows = sorted(set(mine.pairs) & set(base.pairs))
    found = preferences(
        [texts.pairs[r] for r in rows], [mine.pairs[r] for r in rows], [base.pairs[r] for r in rows]
    )
    if found is not None:
        found["left_out"] = len(texts.pairs) - len(rows)
    draft.put("preferences", found, "the run has no held-out pairs")


def _sampled(
    draft: Draft,
    mine: Gathered,
    base: Gathered,
    base_on_mine: list[list[Scored]] | None,
    asked: PromptSet | None,
    config: RunConfig,
    judges: Judges,
    say: Reporter,
) -> None:
    """All that is read from the answers to held-out prompts."""
    if asked is None:
        why = "there are no held-out prompts, or evaluate.answers is 0"
        for name in ("answers", "text", "drift", "wins"):
            draft.put(name, None, why)
        return
    after, before = mine.answers[HELDOUT], base.answers[HELDOUT]
    found = summarise(
        _as_answers(asked, before, "before", judges.rule),
        _as_answers(asked, after, "after", judges.rule),
        config.seed,
    )
    drift = None if base_on_mine is None else sampled_kl(mine.own, base_on_mine)
    if drift is not None:
        drift["base_entropy"] = mean_entropy(base.own)
        found = replace(found, kl=drift["kl"], kl_error=drift["kl_error"])
    draft.put("answers", found.to_dict(), "")
    draft.put("text", _text(found, after, before), "")
    draft.put("drift", drift, "the base has another vocabulary")
    if judges.pair is None:
        draft.put("wins", None, "neither evaluate.judge nor evaluate.rule names a judge")
        return
    with say.bar(f"{mine.candidate.name}: judged", sum(len(said) for said in after)) as bar:
        said = duels(asked.examples, after, before, judges.pair, judges.identity, bar.advance)
    wins = win_rate(said, config.seed)
    if wins is not None:
        wins["judge"] = judges.pair.name
    why = "; ".join(sorted({duel.failure or "no verdict" for duel in said})) or "no answers"
    draft.put("wins", wins, f"the judge gave no verdict: {why}")


def _text(
    found: Comparison, after: Sequence[Sequence[Spoken]], before: Sequence[Sequence[Spoken]]
) -> dict[str, Any]:
    """Signs of decay. Answers of one word, where there were longer ones, have no variety left."""
    now, was = (repetition(one.text for said in each for one in said) for each in (after, before))
    old, new = found.before.distinct_2, found.after.distinct_2
    return {
        "repetition": now,
        "base_repetition": was,
        "repetition_rise": None if now is None or was is None else now - was,
        "finished_drop": found.before.finished - found.after.finished,
        "variety_drop": 1 - (new or 0.0) / old if old else 0.0,
    }


def _as_answers(
    asked: PromptSet, answers: Sequence[Sequence[Spoken]], stage: Stage, rule: Rule | None
) -> list[Answer]:
    return [
        Answer(
            prompt=example.prompt,
            group=example.prompt_key,
            text=one.text,
            tokens=len(one.ids),
            finished=one.finished,
            stage=stage,
            result=rule(example.prompt, one.text) if rule else None,
        )
        for example, said in zip(asked.examples, answers, strict=True)
        for one in said
        if one.failure is None
    ]


def _fixed(
    draft: Draft,
    mine: Gathered,
    base: Gathered,
    texts: Texts,
    sets: dict[str, PromptSet],
    judges: Judges,
) -> None:
    kept = None
    if "instructions" in sets:
        ours, theirs = (one.answers["instructions"] for one in (mine, base))
        kept = instructions(texts.instructions, ours, theirs)
    draft.put("instructions", kept, "evaluate.instructions is none, or no prompt could be asked")
    asked = sets.get("maths")
    draft.put("maths", _maths(asked, mine, base) if asked else None, "evaluate.maths names no file")
    asked = sets.get("safety")
    safety = None
    if asked is not None:
        safety = refusals(
            asked.examples,
            mine.answers["safety"],
            base.answers["safety"],
            judges.declines,
            judges.refuses,
        )
    draft.put("safety", safety, "evaluate.safety is none")


def _maths(asked: PromptSet, mine: Gathered, base: Gathered) -> dict[str, Any] | None:
    """Right final numbers (GSM8K's exact match), of both models."""
    scorer = NumberScorer()
    both = []
    for example, ours, theirs in zip(
        asked.examples, mine.answers["maths"], base.answers["maths"], strict=True
    ):
        given = [Answered(example, one[0].text, one[0].finished) for one in (ours, theirs)]
        first, second = scorer.score(given)
        both.append((bool(first.passed), bool(second.passed)))
    return paired_share(both)
