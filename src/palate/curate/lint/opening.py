"""Do the first words of an answer decide who wins?"""

from __future__ import annotations

from collections.abc import Iterator

from palate.curate.lint.features import covered
from palate.curate.lint.findings import Finding, Number, shown_text
from palate.curate.lint.surface import at_equal_length, judged
from palate.curate.lint.view import View

CHECK = "opening"
_CURE = (
    "If the opening is a habit of whoever wrote the answers and not what makes them better, strip "
    "it from both answers, or drop the pairs in which only one has it."
)


def check(view: View) -> Iterator[Number | Finding]:
    """The opening of one, two or three words that tells most about the winner, at equal length.

    Openings that tell the answers apart in fewer than 5 % of the contests, or 20 of them, are not
    looked at. The interval holds for all that are looked at together; one finding names the
    most telling.
    """
    names, columns = view.form.opening_names, view.form.openings
    looked = [(at, name) for at, name in enumerate(names) if covered(columns[:, at])]
    measured = [
        (
            at_equal_length(
                view,
                CHECK,
                f"an answer that opens with \u201c{shown_text(name)}\u201d wins",
                columns[:, at],
                len(looked),
            ),
            at,
        )
        for at, name in looked
    ]
    if not measured:
        return
    most, at = max(measured, key=lambda pair: (_sureness(pair[0]), pair[0].of))
    yield most
    found = judged(view, most, columns[:, at], _CURE)
    if found is not None:
        yield found


def _sureness(number: Number) -> float:
    """How far the interval's nearer bound is from chance."""
    return max(number.low - 0.5, 0.5 - number.high)
