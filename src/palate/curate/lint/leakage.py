"""Do near-duplicates of held-out prompts stand in the training data?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.view import View

CHECK = "leakage"
ABOVE = 0.02  # one held-out example in fifty


def check(view: View) -> Iterator[Number | Finding]:
    """The share of held-out examples whose prompt is a near-duplicate of one to train on."""
    if not view.heldout or not view.train:
        return
    train = set(view.clusters[: len(view.train)].tolist())
    held = view.clusters[len(view.train) :]
    leaked = np.array([int(cluster) in train for cluster in held], np.float64)
    number = share(CHECK, "held-out examples with a near-duplicate in training", leaked, held)
    yield number
    if number.low > ABOVE:
        shown = (np.flatnonzero(leaked) + len(view.train)).tolist()
        yield Finding(
            CHECK,
            "warning",
            number,
            f"{number.said} of the held-out examples have a prompt that is trained on in nearly "
            "the same words: what is measured on them is partly memory.",
            "Set data.split_by=cluster, which keeps near-duplicates on one side.",
            view.ids(shown[:SHOWN]),
        )
