"""What a kind of instruction is: its settings, and the question whether an answer follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Setting = Callable[[object], Any]
"""Reads one setting; raises `ValueError` that says what it must be."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of instruction.

    - `name` is IFEval's own, such as `punctuation:no_comma`.
    - `follows(answer, **settings)`: whether the answer obeys. `answer` is not blank, and its lines
      end in a line feed alone.
    - `settings`: how each is read. All of them must be given.
    - `prompted`: the one setting that is the whole prompt where it is not given.
    - `prepare` is called before anything is checked, and raises `ValueError` where a library that
      the kind needs is not installed.
    """

    name: str
    follows: Callable[..., bool]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    prompted: str | None = None
    prepare: Callable[[], object] | None = None

    def read(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The settings as `follows` takes them; raises `ValueError` that names the bad one.

        What is None counts as not given: tables of several kinds fill all their columns.
        """
        there = {name: value for name, value in given.items() if value is not None}
        for name in there:
            if name not in self.settings:
                known = f"it has {_named(self.settings)}" if self.settings else "it has none"
                raise ValueError(f"there is no setting '{name}'; {known}")
        for name in self.settings:
            if name not in there and name != self.prompted:
                raise ValueError(f"the setting '{name}' is missing")
        out = {}
        for name, value in there.items():
            try:
                out[name] = self.settings[name](value)
            except ValueError as error:
                raise ValueError(f"'{name}' must be {error}, not {value!r}") from None
        return out


def number(value: object) -> int:
    """0, 1, 2 …, also written as 3.0, which tables make of it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a whole number that is not negative")
    return value


def ordinal(value: object) -> int:
    """1, 2, 3 …."""
    if number(value) < 1:
        raise ValueError("a whole number from 1 on")
    return number(value)


def text(value: object) -> str:
    """A text that is not blank, without the blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value.strip()


def character(value: object) -> str:
    """One character that is no blank."""
    if not isinstance(value, str) or len(value.strip()) != 1:
        raise ValueError("one character")
    return value.strip()


def words(value: object) -> tuple[str, ...]:
    """A list of words, at least one."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a list of words")
    return tuple(text(word) for word in value)


def relation(value: object) -> Callable[[int, int], bool]:
    """How a count is compared with its bound: `at least` or `less than`."""
    if value == "at least":
        return int.__ge__
    if value == "less than":
        return int.__lt__
    raise ValueError("'at least' or 'less than'")


def _named(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)
