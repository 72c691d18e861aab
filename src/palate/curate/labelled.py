"""Thumbs out of whatever says good or bad: for methods that learn from single answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from palate.curate.rejects import OnReject, reject
from palate.records import Completion, Example


def make_labelled(
    examples: Iterable[Example], on_reject: OnReject
) -> tuple[list[Example], Counter[str]]:
    """One answer with a thumb per example, and how many came from where.

    An answer with a thumb gives itself, a pair two: its chosen answer up, its rejected one down.
    Left out: ``no-thumb`` for answers about which nothing is known, or only a score, which has no
    border between good and bad; where the same answer to a prompt is good in one row and bad in
    another, ``overruled`` for the fewer rows, and ``contradictory`` for all if there are as many.
    """
    out: list[Example] = []
    origins: list[str] = []

    def take(example: Example, completion: Completion, up: bool, origin: str) -> None:
        single = replace(completion, label=up)
        out.append(replace(example, completions=(single,), verdict=None))
        origins.append(origin)

    for example in examples:
        if example.verdict is not None:
            take(example, example.chosen, True, "pairs")
            take(example, example.rejected, False, "pairs")
            continue
        for completion in example.completions:
            if completion.label is not None:
                take(example, completion, completion.label, "thumbs")
            else:
                detail = "a score is no thumb" if completion.score is not None else "no thumb"
                on_reject(reject(example, "no-thumb", detail))
    said: dict[tuple[str, str], Counter[bool | None]] = defaultdict(Counter)
    keys = [(one.prompt_key, one.completions[0].content_key) for one in out]
    for key, one in zip(keys, out, strict=True):
        said[key][one.completions[0].label] += 1
    kept: list[Example] = []
    counts: Counter[str] = Counter()
    for key, one, origin in zip(keys, out, origins, strict=True):
        label = one.completions[0].label
        mine, others = said[key][label], said[key][not label]
        if mine == others:
            on_reject(reject(one, "contradictory", "the same answer is good and bad"))
        elif mine < others:
            on_reject(reject(one, "overruled", f"{others} rows say the opposite of this answer"))
        else:
            kept.append(one)
            counts[origin] += 1
    return kept, counts
