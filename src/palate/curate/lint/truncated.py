"""Are the answers that the model learns from cut off?"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.view import Answer, View

CHECK = "truncated"
ABOVE = 0.05  # one in twenty
LEAST_WORDS = 50  # a short answer may well end without a full stop
_LAST_WORDS = 6  # neither may a short last line: a list's item, a name, a title
_LINE = re.compile(r"^\s*(?:[-*\u2022+#|>]|\d{1,3}[.)])")
_OPEN_END = re.compile(r"[\w,;(\-\u2013\u2014/&]\Z")


def check(view: View) -> Iterator[Number | Finding]:
    """The share of better answers that stop in the middle.

    The provider said so (``length``), a code block is left open, or an answer of 50 words or more
    ends in a letter or a comma, in a line of prose.
    """
    mine = [answer for answer in view.answers if answer.rank >= 0]
    if view.shape == "text" or not mine:
        return
    cut = np.array([is_cut(answer) for answer in mine], np.float64)
    groups = view.clusters[np.array([answer.example for answer in mine])]
    number = share(CHECK, "better answers that are cut off", cut, groups)
    yield number
    if number.low > ABOVE:
        shown = [answer.example for answer, hit in zip(mine, cut, strict=True) if hit]
        yield Finding(
            CHECK,
            "warning",
            number,
            f"{number.said} of the answers to be learned stop in the middle: the model learns to "
            "stop there too.",
            "Drop them, or generate them again with a higher limit of tokens.",
            view.ids(shown[:SHOWN]),
        )


def is_cut(answer: Answer) -> bool:
    """Whether an answer stops in the middle, as far as can be seen."""
    if answer.completion.finish_reason == "length":
        return True
    if any(message.tool_calls for message in answer.completion.messages[-1:]):
        return False
    text = answer.text.rstrip()
    if text.count("```") % 2:
        return True
    last = text.rsplit("\n", 1)[-1]
    if answer.words < LEAST_WORDS or _LINE.match(last) or len(last.split()) < _LAST_WORDS:
        return False
    return _OPEN_END.search(text) is not None
