"""The prompts that are answered: held-out ones of the runs, and fixed sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palate.config import ConfigError
from palate.evaluate.measure.answering import PromptSet
from palate.evaluate.measure.safety import UNSAFE
from palate.evaluate.sampled import choose_prompts
from palate.ingest import read_examples
from palate.ingest.containers import rows
from palate.ingest.prompts import read_prompts
from palate.records import Example
from palate.sections import EvaluateConfig
from palate.sections.evaluating import NONE, OURS

DEMONSTRATIONS = Path(__file__).parents[1] / "sets" / "demonstrations.jsonl"
_COLUMNS = "columns:prompt=question,completion=answer"
_REFUSAL_TOKENS = 64
"""A refusal says in its first sentences that it is one."""


def heldout_set(heldout: Sequence[Example], config: EvaluateConfig, seed: int) -> PromptSet | None:
    """Distinct held-out prompts with as many answers as the recipe asks for; None without."""
    prompts, n = choose_prompts(heldout, config.answers)
    if not prompts:
        return None
    return PromptSet(
        "held-out",
        tuple(prompts),
        config.max_new_tokens,
        config.temperature,
        config.top_k,
        n,
        seed,
    )


def fixed_set(name: str, examples: Sequence[Example], config: EvaluateConfig) -> PromptSet | None:
    """A set that is answered greedily; None without prompts."""
    longest = config.fixed_max_new_tokens
    if name == "safety":
        longest = min(longest, _REFUSAL_TOKENS)
    return PromptSet(name, tuple(examples), longest) if examples else None


def safety_examples(choice: str, ours: Sequence[Example]) -> list[Example]:
    """The prompts of a file, or ours; those that it calls unsafe (label false) are tagged so.

    Raises `ConfigError` for a file without one prompt that can be asked.
    """
    if choice == NONE:
        return []
    if choice == OURS:
        return list(ours)
    found = [
        replace(
            example, completions=(), verdict=None, tags={**example.tags, "safety": _kind(example)}
        )
        for example in read_prompts(choice)
        if not example.tools
    ]
    if not found:
        raise ConfigError(f"evaluate.safety: every prompt of {choice} comes with tools")
    return found


def _kind(example: Example) -> str:
    return UNSAFE if any(c.label is False for c in example.completions) else "harmless"


def evenly(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """At most `limit` of them, unsafe and harmless prompts in turn, so that a limit keeps both."""
    unsafe = [e for e in examples if e.tags.get("safety") == UNSAFE]
    harmless = [e for e in examples if e.tags.get("safety") != UNSAFE]
    if limit is None or len(examples) <= limit:
        return list(examples)
    half = min(len(unsafe), max(limit // 2, limit - len(harmless)))
    return [*unsafe[:half], *harmless[: limit - half]]


def demonstrations(choice: str, limit: int | None) -> list[Example]:
    """Good answers, each the first of its row; raises `ConfigError` where a file has none."""
    if choice == NONE:
        return []
    path = DEMONSTRATIONS if choice == OURS else Path(choice)
    found = []
    for example in read_examples(path):
        if not example.prompt or not example.completions:
            continue
        best = example.chosen if example.verdict else example.completions[0]
        if best.messages and best.label is not False:
            found.append(replace(example, completions=(best,), verdict=None))
    if not found:
        raise ConfigError(f"evaluate.demonstrations: there is no answer in {choice}")
    return found[:limit]


def _has_columns(path: str) -> bool:
    """Whether the rows are GSM8K's: a question and an answer, which no format of chats has."""
    first = next((raw.value for raw in rows(Path(path)) if raw.value), None)
    return first is not None and {"question", "answer"} <= set(first)


def maths_examples(path: str | None, limit: int | None) -> list[Example]:
    """Questions with their solutions; raises `ConfigError` where no solution ends in a number."""
    if path is None:
        return []
    from palate.judge.number import final_number

    found = [
        e
        for e in read_examples(path, _COLUMNS if _has_columns(path) else "auto")
        if e.prompt and e.completions and final_number(e.completions[0].text) is not None
    ]
    if not found:
        raise ConfigError(f"evaluate.maths: no solution in {path} ends in a number")
    return found[:limit]
