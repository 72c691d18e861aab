"""Do some examples have a system prompt, and others none?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.view import View
from palate.records import Example

CHECK = "system-prompt"
ABOVE = 0.05  # of the examples, on the rarer side


def check(view: View) -> Iterator[Number | Finding]:
    """The share of examples on the rarer side: with a system prompt, or without one."""
    if not view.examples or view.shape == "text":
        return
    systems = [_system(example) for example in view.examples]
    having = np.array([bool(system) for system in systems], np.float64)
    rarer = having if having.mean() <= 0.5 else 1 - having
    side = "with" if having.mean() <= 0.5 else "without"
    number = share(CHECK, f"examples {side} a system prompt, the rarer kind", rarer, view.clusters)
    yield number
    if number.low <= ABOVE:
        return
    kinds = Counter(system for system in systems if system)
    yield Finding(
        CHECK,
        "note",
        number,
        f"{number.said} of the examples are {side} a system prompt, the others are not; "
        f"{len(kinds)} different ones are used. What is learned may hang on that.",
        "If the product always sends a system prompt, set data.system to it, which gives it to "
        "all that have none; otherwise keep the kinds apart.",
        view.ids(np.flatnonzero(rarer).tolist()[:SHOWN]),
    )


def _system(example: Example) -> str:
    return "\n".join(m.content for m in example.prompt if m.role in {"system", "developer"})
