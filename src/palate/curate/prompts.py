"""Prompts to be answered anew, with the best answer that is known: for methods that sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from palate.curate.rejects import OnReject
from palate.records import Completion, Example

_CUT = ("length", "content_filter")


def make_prompts(
    examples: Iterable[Example], on_reject: OnReject
) -> tuple[list[Example], Counter[str]]:
    """Each prompt once, and how many came with a known answer or without.

    The answer, which a judge may compare with (a solution, a demonstration), is the chosen one of
    a pair, one with a thumb up, the one with the best score, or the only one; where several rows
    have one, that of the first. It is the example's only completion. Nothing is left out: a prompt
    that stands in many rows is one prompt.
    """
    found: dict[str, Example] = {}
    for example in examples:
        known = _known(example)
        first = found.get(example.prompt_key)
        if first is None or (known is not None and not first.completions):
            shown = () if known is None else (replace(known, label=None),)
            found[example.prompt_key] = replace(example, completions=shown, verdict=None)
    counts = Counter(
        "with a known answer" if one.completions else "without one" for one in found.values()
    )
    return list(found.values()), counts


def _known(example: Example) -> Completion | None:
    """The answer that is known to be good, or is the only one that is not known to be bad."""
    if example.verdict is not None:
        return None if example.chosen.finish_reason in _CUT else example.chosen
    written = [c for c in example.completions if c.messages and c.label is not False]
    written = [c for c in written if c.finish_reason not in _CUT]
    liked = [c for c in written if c.label]
    scored = [c for c in written if c.score is not None]
    if liked:
        return liked[0]
    if scored:
        return max(scored, key=lambda c: c.score or 0.0)
    return written[0] if len(written) == 1 else None
