"""Is one and the same answer given to many prompts?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, shown_text
from palate.curate.lint.shares import share
from palate.curate.lint.text import key
from palate.curate.lint.view import Answer, View

PROMPTS = 5  # unlike prompts that get the same answer
LEAST_WORDS = 5  # "yes" may be right many times
ABOVE = 0.02  # one answer in fifty
_SIDES = (
    ("template-chosen", 1, "chosen", "the model learns to say it, whatever was asked"),
    ("template-rejected", -1, "rejected", "the model learns to avoid these words, and little else"),
)


def check(view: View) -> Iterator[Number | Finding]:
    """The share of better, and of worse, answers that five unlike prompts or more have in common.

    Equal up to case, spaces and punctuation; answers of fewer than five words do not count.
    Single answers without a verdict count as better ones.
    """
    for name, side, kind, effect in _SIDES:
        mine = [a for a in view.answers if a.rank == side or (side == 1 and a.rank == 0)]
        if not mine:
            continue
        shared, most = _shared(view, mine)
        hits = np.zeros(len(mine))
        hits[: len(shared)] = 1
        label = f"{kind} answers that stand under {PROMPTS} unlike prompts or more"
        number = share(name, label, hits)
        yield number
        if number.low > ABOVE:
            yield Finding(
                name,
                "warning",
                number,
                f"{number.said} of the {kind} answers are the same under {PROMPTS} unlike prompts "
                f"or more, most often \u201c{shown_text(most)}\u201d: {effect}.",
                "Keep a few pairs of each such answer, and drop the rest.",
                view.ids(shared[:SHOWN]),
            )


def _shared(view: View, answers: list[Answer]) -> tuple[list[int], str]:
    """The examples whose answer stands under many prompts, and the most frequent such answer."""
    under: dict[bytes, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.words >= LEAST_WORDS:
            under[key(answer.text)].append(answer)
    shared = [
        found
        for found in under.values()
        if len(found) >= PROMPTS
        and len({int(view.clusters[answer.example]) for answer in found}) >= PROMPTS
    ]
    shared.sort(key=lambda found: (-len(found), found[0].example))
    examples = [answer.example for found in shared for answer in found]
    return examples, shared[0][0].text if shared else ""
