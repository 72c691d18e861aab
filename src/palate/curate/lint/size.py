"""Are there enough held-out examples to measure what training did?"""

from __future__ import annotations

from collections.abc import Iterator

from palate.curate.lint.findings import Finding, Number
from palate.curate.lint.shares import wilson
from palate.curate.lint.view import View

CHECK = "held-out-size"
WIDE = 0.10  # half-width: a gain of ten points is then told from none
_ENOUGH = 93  # prompts: Wilson's half-width at one half falls to 0.1


def check(view: View) -> Iterator[Number | Finding]:
    """The interval that an accuracy of one half gets on the held-out prompts."""
    if not view.examples or not view.is_split:
        return
    # Of the whole snapshot, whether or not all of it was read.
    held = len(set(view.clusters[len(view.train) :].tolist()))
    held = round(held * view.given / len(view.examples))
    if not held:
        number = Number(CHECK, "accuracy of one half, as it would be measured", 0.5, 0.0, 1.0, 0)
    else:
        number = Number(
            CHECK, "accuracy of one half, as it would be measured", 0.5, *wilson(0.5, held), held
        )
    yield number
    half = (number.high - number.low) / 2
    if half > WIDE:
        yield Finding(
            CHECK,
            "note",
            number,
            f"{held} unlike prompts are held out: an accuracy measured on them is known to "
            f"\u00b1{100 * half:.0f} points only ({number.said}), so a smaller gain cannot be told "
            "from none.",
            f"Hold out {_ENOUGH} unlike prompts or more: raise data.heldout, or collect more.",
        )
