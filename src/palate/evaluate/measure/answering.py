"""Answers to sets of prompts, sampled once for each model and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.evaluate.measure.candidate import Candidate, Opened
from palate.evaluate.measure.kept import kept_rows
from palate.generate.sampling import Sampling, most_positions, sample
from palate.records import Example, digest
from palate.resumable import Row
from palate.tokens.render import Unusable

GROUP = 16
"""Prompts that are answered at once, and kept at once."""
Prompt = list[int] | str
"""A prompt's tokens, or why it cannot be asked."""


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts under one name, and how they are answered: `n` answers each, greedy at 0."""

    name: str
    examples: tuple[Example, ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    n: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer as tokens and text; with a `failure` the prompt could not be asked."""

    ids: tuple[int, ...]
    text: str
    finished: bool
    failure: str | None = None


def answers_of(
    candidate: Candidate,
    opened: Opened,
    asked: PromptSet,
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[Spoken]]:
    """`n` answers to each prompt, in order; from the cache where they are there.

    `advance` is told how many answers there are.
    """
    prompts = [_prompt(opened, asked, example) for example in asked.examples]

    def work(group: Sequence[Prompt], number: int) -> list[Row]:
        return _answer(opened, asked, number, group, advance)

    settings: Row = {
        "model": candidate.identity,
        "precision": opened.precision,
        "ends": sorted(opened.renderer.end_ids),
        "prompts": digest(prompts)[:24],
        "max_new_tokens": asked.max_new_tokens,
        "temperature": asked.temperature,
        "top_k": asked.top_k,
        "n": asked.n,
        "seed": asked.seed,
    }
    rows = kept_rows(
        "answers", settings, prompts, GROUP, work, lambda rows: advance(rows * asked.n)
    )
    return [
        [Spoken(tuple(a["ids"]), a["text"], a["finished"], a["failure"]) for a in row["answers"]]
        for row in rows
    ]


def _answer(
    opened: Opened,
    asked: PromptSet,
    number: int,
    prompts: Sequence[Prompt],
    advance: Callable[[int], None],
) -> list[Row]:
    """One group: every prompt has a stream of draws of its own, by the seed and its place."""
    usable = [prompt for prompt in prompts if not isinstance(prompt, str)]
    drawn = iter(
        sample(
            opened.policy,
            usable,
            Sampling(asked.max_new_tokens, asked.temperature, asked.top_k, (asked.seed, number)),
            end_ids=tuple(opened.renderer.end_ids),
            n=asked.n,
            advance=advance,
        )
    )
    advance((len(prompts) - len(usable)) * asked.n)
    rows: list[Row] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            lost = {"ids": [], "text": "", "finished": False, "failure": prompt}
            rows.append({"answers": [lost] * asked.n})
            continue
        answers = [
            {
                "ids": list(one.ids),
                "text": opened.renderer.text(one.ids),
                "finished": one.finished,
                "failure": None,
            }
            for one in next(drawn)
        ]
        rows.append({"answers": answers})
    return rows


def _prompt(opened: Opened, asked: PromptSet, example: Example) -> Prompt:
    try:
        ids = list(opened.renderer.asked(example).prompt_ids)
    except Unusable as error:
        return error.reason
    if len(ids) + asked.max_new_tokens > most_positions(opened.policy):
        return "prompt-too-long"
    return ids
