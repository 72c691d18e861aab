"""The exact final number: for questions whose solution ends in one, as GSM8K's do.

Where the solution stands, `JudgeConfig.answer_from` says: as the reference answer of the example
(see `reference`), or in a tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from palate.judge.opinion import Answered, Closing, Score
from palate.records import Example

MARK = "####"
"""GSM8K writes the final number after it (Cobbe et al. 2021, arXiv:2110.14168)."""

# Thousands in groups of three, or digits alone; then a decimal part, and a denominator.
_NUMBER = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+(?![\d.]))?|(?<!\d)\.\d+", re.ASCII
)
_MINUS = re.compile(r"(?:^|[^\w.)\]])[-−][$€£]?$|(?:^|[^\w.)\]])[$€£][-−]$")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_LONGEST = 60  # characters; what is longer is no answer, and costs time to read


def numbers(text: str) -> list[Fraction]:
    r"""The numbers of a text, in order: ``-$1,234.50`` is -1234.5, ``3/4`` is 0.75.

    A minus counts unless it stands behind a number, a word or a bracket (``10-5``).
    """
    found = []
    for match in _NUMBER.finditer(text):
        written = match.group().replace(",", "")
        above, _, below = written.partition("/")
        if len(written) > _LONGEST or (below and not int(below)):
            continue
        value = Fraction(above) / (int(below) if below else 1)
        negative = _MINUS.search(text, max(0, match.start() - 3), match.start())
        found.append(-value if negative else value)
    return found


def final_number(text: str) -> Fraction | None:
    r"""The number that a text ends in: after its last ``####``, else the last ``\boxed{…}``'s.

    Where there is neither, the last number of all. None if there is none.
    """
    _, mark, after = text.rpartition(MARK)
    if mark:
        return next(iter(numbers(after)), None)
    boxed = _BOXED.findall(text)
    last = numbers(boxed[-1] if boxed else text)
    return last[-1] if last else None


def reference(example: Example, answer_from: str = "reference") -> str | None:
    """The text that holds the right answer; None where the data have none.

    ``tag:NAME`` is a tag. ``reference`` is the completion that the data hold as right: the
    chosen one of a pair, else the only one with a thumb up, else the only one, unless its
    thumb is down. GSM8K read by `columns:prompt=question,completion=answer` is of the last kind.
    """
    if answer_from.startswith("tag:"):
        return example.tags.get(answer_from.removeprefix("tag:"))
    if example.verdict is not None:
        return example.chosen.text
    good = [c for c in example.completions if c.label] or list(example.completions)
    return good[0].text if len(good) == 1 and good[0].label is not False else None


class NumberScorer(Closing):
    """1 for an answer whose final number equals the solution's exactly, else 0.

    An answer that was cut off has a final number only after ``####``. Without a solution in the
    data there is no score (`failure`).
    """

    def __init__(self, name: str = "number", answer_from: str = "reference") -> None:
        self.name, self.answer_from = name, answer_from

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        return [self._one(answer) for answer in answers]

    def _one(self, answer: Answered) -> Score:
        solution = reference(answer.example, self.answer_from)
        wanted = None if solution is None else final_number(solution)
        if wanted is None:
            said = "no solution" if solution is None else "a solution without a number"
            return Score(None, failure=f"{said} in {self.answer_from}")
        if not answer.finished and MARK not in answer.text:
            return Score(0.0, False, ("cut off",))
        given = final_number(answer.text)
        if given is None:
            return Score(0.0, False, ("no number",))
        right = given == wanted
        return Score(float(right), right, () if right else ("wrong number",), (str(given),))
