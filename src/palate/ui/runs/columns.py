"""Metric lines as columns: what a chart of a hundred thousand steps can be drawn from.

One `Table` for each kind of line (train, heldout, rollout): the steps, strictly rising, and a
float64 column for each name, NaN where a line did not say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

_NOT_COLUMNS = ("kind", "step")
_FIRST_ROOM = 64  # rows that a new table has room for


class Table:
    """The lines of one kind. Rows are in order of step; the last line of a step counts."""

    def __init__(self) -> None:
        self.rows = 0
        self.changed = 0  # how often a row that was there was changed or another put before it
        self._steps = np.empty(_FIRST_ROOM)
        self._columns: dict[str, Numbers] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order in which they were first seen."""
        return tuple(self._columns)

    @property
    def steps(self) -> Numbers:
        """The steps, [rows]; a view, not to be written to."""
        return self._steps[: self.rows]

    def column(self, name: str) -> Numbers:
        """The values of `name`, [rows]; NaN where a line did not have it, and of unknown names."""
        found = self._columns.get(name)
        return np.full(self.rows, np.nan) if found is None else found[: self.rows]

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines, each with a `step` that is a finite number."""
        for names, group in _runs_of_one_shape(lines):
            columns = [name for name in names if name not in _NOT_COLUMNS]
            steps = np.array([line["step"] for line in group], dtype=np.float64)
            values = _numbers(group, columns)
            last = self._steps[self.rows - 1] if self.rows else -np.inf
            if steps[0] > last and bool(np.all(np.diff(steps) > 0)):
                self._append(steps, columns, values)
            else:
                for step, row in zip(steps.tolist(), values, strict=True):
                    self._put(step, columns, row)

    def _append(self, steps: Numbers, columns: Sequence[str], values: Numbers) -> None:
        first, self.rows = self.rows, self.rows + len(steps)
        self._make_room(columns)
        self._steps[first : self.rows] = steps
        for column in self._columns.values():
            column[first : self.rows] = np.nan
        for name, column_values in zip(columns, values.T, strict=True):
            self._columns[name][first : self.rows] = column_values

    def _put(self, step: float, columns: Sequence[str], values: Numbers) -> None:
        """One line whose step is there already, or lies between two that are."""
        place = int(np.searchsorted(self.steps, step))
        if place == self.rows:
            self._append(np.array([step]), columns, values[None])
            return
        self.changed += 1
        if self._steps[place] != step:
            self.rows += 1
            self._make_room(columns)
            for stored in (self._steps, *self._columns.values()):
                stored[place + 1 : self.rows] = stored[place : self.rows - 1].copy()
            self._steps[place] = step
        self._make_room(columns)
        for column in self._columns.values():
            column[place] = np.nan
        for name, value in zip(columns, values, strict=True):
            self._columns[name][place] = value

    def _make_room(self, columns: Sequence[str]) -> None:
        """Room for all rows, doubling so that appending stays cheap, and for new columns."""
        room = len(self._steps)
        if self.rows > room:
            room = max(self.rows, 2 * room)
            self._steps = _grown(self._steps, room)
            self._columns = {name: _grown(old, room) for name, old in self._columns.items()}
        for name in columns:
            if name not in self._columns:
                self._columns[name] = np.full(room, np.nan)


def _grown(old: Numbers, room: int) -> Numbers:
    new = np.full(room, np.nan)
    new[: len(old)] = old
    return new


def _runs_of_one_shape(
    lines: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, ...], Sequence[Mapping[str, Any]]]]:
    """Neighbours with the same keys, which become an array in one go."""
    start, shape = 0, tuple(lines[0]) if lines else ()
    for at, line in enumerate(lines):
        keys = tuple(line)
        if keys != shape:
            yield shape, lines[start:at]
            start, shape = at, keys
    if lines:
        yield shape, lines[start:]


def _numbers(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Numbers:
    """[lines, columns]; what is no number (text, a list, true) is NaN."""
    flat = list(chain.from_iterable([line[name] for name in columns] for line in lines))
    if not {type(value) for value in flat} <= {float, int}:
        flat = [_number(value) for value in flat]
    try:
        values = np.array(flat, dtype=np.float64)
    except OverflowError:  # JSON knows integers of any size
        values = np.array([_number(value) for value in flat])
    return values.reshape(len(lines), len(columns))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def kinds_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The lines by their kind, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["kind"], []).append(line)
    return found
