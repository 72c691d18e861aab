"""report.json: everything that was measured of one model beside its base, and the gate's word."""

from __future__ import annotations

import math
from collections import Counter
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
from palate.sections import GateConfig
from palate.train.folder import package_versions

FORMAT = 1
OTHER_VOCABULARY = "the base has another vocabulary"
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
    gate: GateConfig,
    judges: Judges,
    say: Reporter,
) -> dict[str, Any]:
    """The report as plain JSON; `base_on_mine` are the base's scores of the model's answers.

    `config` says how it was measured, `gate` what the model must reach. What is no finite number is
    None.
    """
    draft = Draft()
    sets = {asked.name: asked for asked in texts.sets}
    _preferences(draft, mine, base, texts, config.seed)
    _sampled(draft, mine, base, base_on_mine, sets.get(HELDOUT), config, judges, say)
    _forgetting(draft, mine, base, texts)
    _fixed(draft, mine, base, texts, sets, judges)
    draft.put("tasks", beside(mine.tasks, base.tasks), "evaluate.tasks names none")
    report = {
        "format": FORMAT,
        "model": {"name": mine.candidate.name, "identity": mine.candidate.identity, **mine.facts},
        "base": {
            "name": base.candidate.name,
            "place": base.candidate.place,
            "identity": base.candidate.identity,
        },
        **draft.parts,
        "not_measured": draft.missing,
        "evaluate": config.evaluate.model_dump(mode="json"),
        "seed": config.seed,
        "versions": package_versions(),
    }
    plain: dict[str, Any] = _finite(report)
    found = checks(plain, gate)
    plain["gate"] = {
        "settings": gate.model_dump(mode="json"),
        "passed": all(check.passed for check in found),
        "checks": [check.to_dict() for check in found],
    }
    return plain


def _finite(value: Any) -> Any:
    """The same with None in the place of what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _preferences(draft: Draft, mine: Gathered, base: Gathered, texts: Texts, seed: int) -> None:
    rows = sorted(set(mine.pairs) & set(base.pairs))
    found = preferences(
        [texts.pairs[r] for r in rows],
        [mine.pairs[r] for r in rows],
        [base.pairs[r] for r in rows],
        seed,
    )
    if found is not None:
        found["left_out"] = len(texts.pairs) - len(rows)
    why = "no held-out pair fits the model" if texts.pairs else "the run has no held-out pairs"
    draft.put("preferences", found, why)


def _forgetting(draft: Draft, mine: Gathered, base: Gathered, texts: Texts) -> None:
    asked = texts.demonstrations
    if asked and mine.vocabulary != base.vocabulary:
        draft.put("forgetting", None, OTHER_VOCABULARY)
        return
    rows = sorted(set(mine.demonstrations) & set(base.demonstrations))
    found = forgetting(
        [mine.demonstrations[r] for r in rows], [base.demonstrations[r] for r in rows]
    )
    if found is not None:
        found["left_out"] = len(asked) - len(rows)
    why = "no demonstration fits the model" if asked else "evaluate.demonstrations is none"
    draft.put("forgetting", found, why)


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
    if all(_failed(m) or _failed(b) for m, b in zip(after, before, strict=True)):
        lost = Counter(one.failure for said in (*after, *before) for one in said if one.failure)
        reasons = ", ".join(f"{reason} {count}" for reason, count in lost.most_common())
        for name in ("answers", "text", "drift", "wins"):
            draft.put(name, None, f"no held-out prompt could be asked: {reasons}")
        return
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
    draft.put("drift", drift, OTHER_VOCABULARY if base_on_mine is None else "no answer has a token")
    if judges.pair is None:
        draft.put("wins", None, "neither evaluate.judge nor evaluate.rule names a judge")
        return
    with say.bar(f"{mine.candidate.name}: judged", sum(len(said) for said in after)) as bar:
        said = duels(asked.examples, after, before, judges.pair, judges.identity, bar.advance)
    wins = win_rate(said, config.seed)
    if wins is not None:
        wins["judge"] = judges.pair.name
    failed = Counter(duel.failure or "no verdict" for duel in said if duel.wins is None)
    why = ", ".join(f"{reason} ({count})" for reason, count in failed.most_common())
    draft.put("wins", wins, f"of {len(said)} comparisons the judge failed on some: {why}")


def _failed(said: Sequence[Spoken]) -> bool:
    return all(one.failure is not None for one in said)


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
    why = "no question could be asked" if asked else "evaluate.maths names no file"
    draft.put("maths", _maths(asked, mine, base) if asked else None, why)
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
        if _failed(ours) or _failed(theirs):
            continue
        given = [Answered(example, one[0].text, one[0].finished) for one in (ours, theirs)]
        first, second = scorer.score(given)
        both.append((bool(first.passed), bool(second.passed)))
    return paired_share(both)
