"""The part that needs the models: each is loaded once, answers, and scores texts."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.evaluate.following.prompts import InstructedPrompt
from palate.evaluate.measure.answering import PromptSet, Spoken, answers_of
from palate.evaluate.measure.candidate import Candidate, Opened, open_candidate
from palate.evaluate.measure.scoring import Scored, scores_of
from palate.evaluate.measure.tasks import task_values
from palate.progress import Reporter
from palate.records import Example, digest
from palate.tokens.render import Rendered, Unusable
from palate.tokens.tree import Branch

HELDOUT = "held-out"
Scores = dict[int, list[Scored]]
"""By the row of the example; those that could not be rendered are not there."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What all models are measured on.

    `instructions` are the prompts of the set of that name; `tasks` are lm-eval's.
    """

    sets: tuple[PromptSet, ...] = ()
    pairs: tuple[Example, ...] = ()
    demonstrations: tuple[Example, ...] = ()
    instructions: tuple[InstructedPrompt, ...] = ()
    tasks: tuple[str, ...] = ()
    task_limit: int | None = None


@dataclass(slots=True)
class Gathered:
    """What one model answered and how likely it finds the texts.

    `own` has the scores of its answers to the held-out prompts under itself; `vocabulary` is a
    hash: answers as tokens mean the same to models that share it. `facts` are for the record.
    """

    candidate: Candidate
    answers: dict[str, list[list[Spoken]]] = field(default_factory=dict)
    pairs: Scores = field(default_factory=dict)
    demonstrations: Scores = field(default_factory=dict)
    tasks: dict[str, dict[str, float]] = field(default_factory=dict)
    own: list[list[Scored]] = field(default_factory=list)
    rendered: list[list[Rendered]] = field(default_factory=list)
    vocabulary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def gather(
    candidates: Sequence[Candidate],
    base: Candidate,
    texts: Texts,
    *,
    max_length: int,
    device: str,
    say: Reporter,
) -> tuple[list[Gathered], Gathered, list[list[list[Scored]] | None]]:
    """What each candidate gave, what the base gave, and the base's scores of their answers.

    One model is in memory at a time, the base last. The base's scores are None for a model
    of another vocabulary.
    """
    found = [_one(candidate, texts, max_length, device, say)[0] for candidate in candidates]
    first, opened = _one(base, texts, max_length, device, say)
    scores: list[list[list[Scored]] | None] = []
    for one in found:
        same = one.vocabulary == first.vocabulary
        scores.append(_nested(base, opened, one.rendered) if same else None)
    return found, first, scores


def _one(
    candidate: Candidate, texts: Texts, max_length: int, device: str, say: Reporter
) -> tuple[Gathered, Opened]:
    gc.collect()  # the model before this one
    say.note(f"loading {candidate.name} …")
    opened = open_candidate(candidate, device, max_length)
    out = Gathered(candidate, vocabulary=_vocabulary(opened))
    out.facts = {
        "parameters": opened.parameters,
        "device": opened.device,
        "precision": opened.precision,
        "layout": opened.policy.layout,
    }
    for asked in texts.sets:
        total = len(asked.examples) * asked.n
        with say.bar(f"{candidate.name}: {asked.name}", total) as bar:
            out.answers[asked.name] = answers_of(candidate, opened, asked, bar.advance)
    for asked in texts.sets:
        if asked.name == HELDOUT:
            out.rendered = _as_rendered(opened, asked.examples, out.answers[HELDOUT])
            out.own = _nested(candidate, opened, out.rendered)
    for title, examples, shape, place in (
        ("pairs", texts.pairs, "pair", out.pairs),
        ("demonstrations", texts.demonstrations, "demonstration", out.demonstrations),
    ):
        if examples:
            name = f"{candidate.name}: {title}"
            place.update(_scores(candidate, opened, examples, shape, name, say))
    if texts.tasks:
        with say.bar(f"{candidate.name}: tasks", len(texts.tasks)) as bar:
            out.tasks = task_values(candidate, texts.tasks, texts.task_limit, device, bar.advance)
    return out, opened


def _scores(
    candidate: Candidate,
    opened: Opened,
    examples: Sequence[Example],
    shape: str,
    title: str,
    say: Reporter,
) -> Scores:
    rendered: dict[int, Rendered] = {}
    for row, example in enumerate(examples):
        try:
            (rendered[row],) = opened.renderer.render_as(example, shape)
        except Unusable:
            continue
    with say.bar(title, len(rendered)) as bar:
        scored = scores_of(candidate, opened, list(rendered.values()), bar.advance)
    return dict(zip(rendered, scored, strict=True))


def _as_rendered(
    opened: Opened, examples: Sequence[Example], answers: Sequence[Sequence[Spoken]]
) -> list[list[Rendered]]:
    """Answers as branches below their prompts; those without a token are left out."""
    out = []
    for example, said in zip(examples, answers, strict=True):
        known = [one for one in said if one.ids]
        prompt = list(opened.renderer.prompt(example.prompt, example.tools)) if known else []
        out.append(
            [
                Rendered(
                    example.id,
                    len(prompt),
                    (Branch([*prompt, *one.ids], [False] * len(prompt) + [True] * len(one.ids)),),
                )
                for one in known
            ]
        )
    return out


def _nested(
    candidate: Candidate, opened: Opened, rendered: Sequence[Sequence[Rendered]]
) -> list[list[Scored]]:
    flat = [one for group in rendered for one in group]
    scored = iter(scores_of(candidate, opened, flat) if flat else ())
    return [[next(scored)[0] for _ in group] for group in rendered]


def _vocabulary(opened: Opened) -> str:
    return digest(opened.renderer.tokenizer.get_vocab())[:16]
