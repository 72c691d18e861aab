"""Are there answers of quite another length than the rest?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.view import View

CHECK = "length-outliers"
# Five robust standard deviations of the log length: in a log-normal world, two in a million.
FAR = 5.0
_LEAST_SPREAD = 0.25  # where nearly all are equally long, a quarter more or less is no outlier
ABOVE = 0.001  # one in a thousand
LEAST = 3


def check(view: View) -> Iterator[Number | Finding]:
    """The share of answers whose log length is far from the median, by the median deviation."""
    if len(view.answers) < 20:
        return
    log = np.log1p(view.lengths)
    middle = float(np.median(log))
    spread = max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(log - middle))))
    far = np.abs(log - middle) > FAR * spread
    hits = far.astype(np.float64)
    number = share(CHECK, "answers of quite another length", hits)
    yield number
    if number.low <= ABOVE or far.sum() < LEAST:
        return
    at = np.flatnonzero(far)
    order = at[np.argsort(-np.abs(log[at] - middle), kind="stable")]
    said, effect = [], ""
    if log[at].min() < middle:
        said.append(f"fewer than {max(1.0, np.expm1(middle - FAR * spread)):.0f} words")
    if log[at].max() > middle:
        longest = view.lengths[at].max()
        said.append(f"more than {np.expm1(middle + FAR * spread):.0f} (the longest {longest:.0f})")
        effect = " With a method that sums over tokens, such long ones outweigh the rest."
    yield Finding(
        CHECK,
        "note",
        number,
        f"{len(at)} of {len(log)} answers ({number.said}) have {' or '.join(said)}, where half "
        f"have {np.expm1(middle):.0f} words or fewer.{effect}",
        "Look at them: they are often pasted documents, loops, or phrases that say nothing. Where "
        "they are, lower data.max_length, or drop them.",
        view.ids(view.where(order[:SHOWN])),
    )
