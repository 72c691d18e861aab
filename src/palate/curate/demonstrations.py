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
    which none is known to be good.
    """
    out: list[Example] = []
    origins: Counter[str] = Counter()

    def take(example: Example, completion: Completion, origin: str) -> None:
        out.append(replace(example, completions=(completion,), verdict=None))
        origins[origin] += 1

    for example in examples:
        if example.verdict is not None:
            take(example, example.chosen, "chosen answers of pairs")
        elif example.shape == "demonstration":
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
