"""Demonstrations out of what was judged good: for `sft`, which imitates and does not compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from palate.curate.rejects import OnReject, reject
from palate.records import Completion, Example


def make_demonstrations(
    examples: Iterable[Example], on_reject: OnReject
) -> tuple[list[Example], Counter[str]]:
    """One answer per example, and how many came from where.

    A pair gives its chosen answer, a thumb up its answer, a plain demonstration itself. Left
    out: ``thumbs-down`` for answers with a thumb down, ``no-verdict`` for several answers of
    which none is known to be good, ``known-worse`` for an answer over which a pair prefers another.
    """
    out: list[Example] = []
    origins: Counter[str] = Counter()

    def take(example: Example, completion: Completion, origin: str) -> None:
        # A thumb that all of them have says nothing, and copies with and without it are equal.
        shown = replace(completion, label=None)
        out.append(replace(example, completions=(shown,), verdict=None))
        origins[origin] += 1

    every = list(examples)
    ranked = [example for example in every if example.verdict is not None]
    worse = {(example.prompt_key, example.rejected.content_key) for example in ranked}
    worse -= {(example.prompt_key, example.chosen.content_key) for example in ranked}
    for example in every:
        if example.verdict is not None:
            take(example, example.chosen, "chosen answers of pairs")
        elif example.shape == "demonstration":
            if (example.prompt_key, example.completions[0].content_key) in worse:
                on_reject(reject(example, "known-worse", "a pair prefers another answer to it"))
                continue
            take(example, example.completions[0], "demonstrations")
        elif example.shape == "group":
            on_reject(reject(example, "no-verdict", "several answers and no word on which is good"))
        else:
            for completion in example.completions:
                if completion.label:
                    take(example, completion, "answers with a thumb up")
                else:
                    reason = "no-verdict" if completion.label is None else "thumbs-down"
                    on_reject(reject(example, reason, "the answer has no thumb up"))
    return out, origins
