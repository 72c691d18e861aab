"""Rules: judges that are plain Python functions.

A rule looks at the prompt and one answer and says whether the answer passes, with
a graded score so that two failures can still be told apart. It is named in a
recipe as ``module:function`` or ``path/to/file.py:function``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from palate.config import nearest
from palate.judge.errors import JudgeStopped
from palate.judge.opinion import Answered, Closing, Score
from palate.records import Message


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule found: pass or fail, a score in [0, 1], and the parts that failed."""

    passed: bool
    score: float
    failed: tuple[str, ...] = ()


Rule = Callable[[Sequence[Message], str], RuleResult]


def load_rule(spec: str) -> Rule:
    """The rule named by ``module:function`` or ``file.py:function``.

    The function takes (prompt messages, answer text) and returns a `RuleResult`, a
    bool, or a number in [0, 1], where 1 passes. Raises `ValueError` with the cure when
    the name leads nowhere.
    """
    home, colon, name = spec.rpartition(":")
    if not colon or not home or not name:
        raise ValueError(
            f"the rule '{spec}' is not of the form module:function or file.py:function"
        )
    module = _module_from_file(Path(home), spec) if home.endswith(".py") else _module(home, spec)
    function = getattr(module, name, None)
    if not callable(function):
        public = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
        raise ValueError(
            f"the rule '{spec}': {home} has no function '{name}'{nearest(name, public)}"
        )

    def rule(prompt: Sequence[Message], answer: str) -> RuleResult:
        try:
            found = function(prompt, answer)
        except Exception as error:  # a rule is somebody's program
            raise ValueError(
                f"the rule '{spec}' failed on an answer: {type(error).__name__}: {error}"
            ) from error
        return _as_result(found, spec)

    return rule


def _module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever somebody's module does when it is run
        raise ValueError(
            f"the rule '{spec}' cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _module_from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"the rule '{spec}': there is no file {path}")
    found = importlib.util.spec_from_file_location(f"palate_rule_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file does when it is run
        raise ValueError(
            f"the rule '{spec}' cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _as_result(value: object, spec: str) -> RuleResult:
    if isinstance(value, RuleResult):
        return value
    if isinstance(value, bool):
        return RuleResult(value, float(value))
    if isinstance(value, int | float) and 0 <= value <= 1:
        return RuleResult(value == 1, float(value))
    raise ValueError(
        f"the rule '{spec}' returned {value!r}: return a RuleResult, a bool or a number in [0, 1]"
    )


class RuleScorer(Closing):
    """A rule as a judge of single answers: its score, and the parts that failed."""

    def __init__(self, spec: str, *, name: str | None = None) -> None:
        self._rule = load_rule(spec)
        self.name = name or spec

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order; `JudgeStopped` where the rule itself fails."""
        try:
            results = [self._rule(answer.example.prompt, answer.text) for answer in answers]
        except ValueError as error:
            raise JudgeStopped(str(error)) from error
        return [Score(r.score, r.passed, r.failed) for r in results]
