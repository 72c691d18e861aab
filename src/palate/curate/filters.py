"""Filters: what is dropped from pairs and demonstrations, and under which reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from palate.curate.rejects import OnReject, Reason, reject
from palate.curate.said import compared, learned
from palate.records import Completion, Example

Check = Callable[[Example], Reason | None]
_Ranking = tuple[str, ...]


def apply_filters(
    examples: Sequence[Example],
    on_reject: OnReject,
    *,
    keep_truncated: bool = False,
    keep_errors: bool = False,
    check: Check | None = None,
) -> list[Example]:
    """The examples that pass every filter, in their order.

    In this order: ``empty-answer``, ``equal-answers``, ``provider-error`` (content filter; off
    with `keep_errors`), ``truncated`` (the answer to be learned hit the length limit; off with
    `keep_truncated`),
    ``contradictory`` (the same two answers ranked both ways: both go), ``duplicate`` (the first
    stays), and last whatever `check` names: it returns (reason, detail) or None, and is how
    the caller measures with a tokenizer, which this room does not know.
    """
    sound: list[Example] = []
    for example in examples:
        found = _own_fault(example, keep_truncated, keep_errors)
        if found is None:
            sound.append(example)
        else:
            on_reject(reject(example, *found))
    ranked = [(_ranking(example), example) for example in sound]
    left = _without_duplicates(_without_contradictions(ranked, on_reject), on_reject)
    if check is None:
        return left
    out: list[Example] = []
    for example in left:
        found = check(example)
        if found is None:
            out.append(example)
        else:
            on_reject(reject(example, *found))
    return out


def _own_fault(example: Example, keep_truncated: bool, keep_errors: bool) -> Reason | None:
    completions = compared(example)
    alone = example.verdict is None and example.prompt_judged
    if not alone and any(_is_empty(completion) for completion in completions):
        return "empty-answer", "an answer is empty"
    if example.verdict is not None and completions[0].content_key == completions[1].content_key:
        return "equal-answers", "the chosen and the rejected answer are the same"
    if not keep_errors and any(c.finish_reason == "content_filter" for c in completions):
        return "provider-error", "the provider's content filter cut an answer"
    if not keep_truncated and any(c.finish_reason == "length" for c in learned(example)):
        return "truncated", "the answer to be learned stops at the length limit"
    return None


def _is_empty(completion: Completion) -> bool:
    turns = [m for m in completion.messages if m.role == "assistant"]
    return not any(m.content.strip() or m.tool_calls for m in turns)


def _ranking(example: Example) -> _Ranking:
    """Equal for examples that say the same: the prompt, and the answers in their rank."""
    return example.prompt_key, *(completion.content_key for completion in compared(example))


def _without_contradictions(
    ranked: Sequence[tuple[_Ranking, Example]], on_reject: OnReject
) -> list[tuple[_Ranking, Example]]:
    said = {ranking for ranking, example in ranked if example.verdict is not None}
    out: list[tuple[_Ranking, Example]] = []
    for ranking, example in ranked:
        if example.verdict is not None and (ranking[0], ranking[2], ranking[1]) in said:
            detail = "another row ranks the same two answers the other way round"
            on_reject(reject(example, "contradictory", detail))
        else:
            out.append((ranking, example))
    return out


def _without_duplicates(
    ranked: Sequence[tuple[_Ranking, Example]], on_reject: OnReject
) -> list[Example]:
    first: dict[_Ranking, Example] = {}
    for ranking, example in ranked:
        same = first.setdefault(ranking, example)
        if same is not example:
            where = same.provenance[:1]
            copied = f" of {where[0].source}:{where[0].line}" if where else ""
            on_reject(reject(example, "duplicate", f"a copy{copied}"))
    return list(first.values())
