"""Answers sampled from the model before and after, scored by the rule, with their KL."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from palate.durable import write_text
from palate.evaluate.answers import Answer, Stage
from palate.generate.sampling import Sample, Sampling, sample
from palate.judge.rules import Rule
from palate.model.policy import Policy
from palate.model.score import score
from palate.records import Example
from palate.tokens.render import Rendered, Renderer
from palate.tokens.tree import Branch


def choose_prompts(heldout: Sequence[Example], samples: int) -> tuple[list[Example], int]:
    """At most `samples` examples with distinct prompts, and how many answers each gets.

    Which ones, where there are more, is decided by a hash of the prompt: a log is often
    sorted by time or topic, and its beginning is no fair sample.
    """
    distinct = list({example.prompt_key: example for example in heldout}.values())
    if len(distinct) > samples:
        distinct.sort(key=lambda example: example.prompt_key)
    if not distinct or samples == 0:
        return [], 0
    chosen = distinct[:samples]
    return chosen, max(1, samples // len(chosen))


def sample_answers(
    policy: Policy,
    renderer: Renderer,
    examples: Sequence[Example],
    sampling: Sampling,
    *,
    n: int,
    stage: Stage,
    rule: Rule | None,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[list[Answer], list[Rendered]]:
    """`n` answers to each prompt, and the same as tokens (for `with_kl`)."""
    prompts = [renderer.prompt(example.prompt, example.tools) for example in examples]
    drawn = sample(
        policy,
        prompts,
        sampling,
        end_ids=tuple(renderer.end_ids),
        n=n,
        advance=advance,
    )
    answers: list[Answer] = []
    rendered: list[Rendered] = []
    for example, prompt, found in zip(examples, prompts, drawn, strict=True):
        for one in found:
            answers.append(_answer(example, one, renderer, stage, rule))
            ids = [*prompt, *one.ids]
            mask = [False] * len(prompt) + [True] * len(one.ids)
            rendered.append(Rendered(example.id, len(prompt), (Branch(ids, mask),)))
    return answers, rendered


def with_kl(
    answers: Sequence[Answer],
    rendered: Sequence[Rendered],
    policy: Policy,
    reference: Policy,
    switch: Callable[[], AbstractContextManager[None]],
    budget: int,
) -> list[Answer]:
    """The answers with Σ_t [log π(y_t) − log π_ref(y_t)] on their own text, in nats.

    The mean over answers sampled from π estimates KL(π ‖ π_ref) per answer. `switch` is
    entered while the reference is scored (adapters off).
    """
    ours = score(policy, rendered, budget)
    with switch():
        theirs = score(reference, rendered, budget)
    sums = [float((a.double() - b.double()).sum()) for a, b in zip(ours, theirs, strict=True)]
    return [
        replace(answer, kl=value if math.isfinite(value) else None)
        for answer, value in zip(answers, sums, strict=True)
    ]


def write_answers(path: Path, stage: Stage, answers: Sequence[Answer]) -> None:
    """Put a stage's answers into samples.jsonl, whole or not at all, in place of older ones."""
    others = [answer for answer in _read_all(path) if answer.stage != stage]
    rows = [json.dumps(answer.to_dict(), ensure_ascii=False) for answer in (*others, *answers)]
    write_text(path, "".join(f"{row}\n" for row in rows))


def read_answers(path: Path, stage: Stage) -> list[Answer]:
    """The answers of one stage in samples.jsonl; none when there is no file."""
    return [answer for answer in _read_all(path) if answer.stage == stage]


def _read_all(path: Path) -> list[Answer]:
    if not path.is_file():
        return []
    # Not splitlines: an answer may hold U+2028, which JSON leaves as it is.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Answer.from_dict(json.loads(line)) for line in lines if line]


def _answer(
    example: Example, one: Sample, renderer: Renderer, stage: Stage, rule: Rule | None
) -> Answer:
    text = renderer.text(one.ids)
    return Answer(
        prompt=example.prompt,
        group=example.prompt_key,
        text=text,
        tokens=len(one.ids),
        finished=one.finished,
        stage=stage,
        result=rule(example.prompt, text) if rule else None,
    )
