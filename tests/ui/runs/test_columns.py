"""Lines to columns: order, repeated steps, and what is no number."""

from __future__ import annotations

import math

import numpy as np

from palate.ui.runs.columns import Table


def line(step: float, **values: object) -> dict[str, object]:
    return {"kind": "train", "step": step, **values}


def table(*lines: dict[str, object]) -> Table:
    made = Table()
    made.add(lines)
    return made


def test_columns_by_name() -> None:
    made = table(line(1, loss=0.5, lr=1e-4), line(2, loss=0.25, lr=2e-4))
    assert made.names == ("loss", "lr")
    assert made.steps.tolist() == [1, 2]
    assert made.column("loss").tolist() == [0.5, 0.25]
    assert made.changed == 0


def test_a_name_that_only_some_lines_have() -> None:
    made = table(line(1, loss=0.5, max_abs_h=3.0), line(2, loss=0.25), line(3, loss=0.1, kl=7.0))
    assert made.column("loss").tolist() == [0.5, 0.25, 0.1]
    np.testing.assert_array_equal(made.column("max_abs_h"), [3.0, np.nan, np.nan])
    np.testing.assert_array_equal(made.column("kl"), [np.nan, np.nan, 7.0])
    assert np.isnan(made.column("never")).tolist() == [True, True, True]


def test_the_last_line_of_a_step_counts() -> None:
    made = table(line(1, loss=1.0), line(2, loss=2.0, kl=5.0), line(3, loss=3.0))
    made.add([line(2, loss=20.0)])
    assert made.steps.tolist() == [1, 2, 3]
    assert made.column("loss").tolist() == [1, 20, 3]
    assert np.isnan(made.column("kl")).all(), "the earlier line of step 2 is forgotten as a whole"
    assert made.changed == 1


def test_a_step_between_two_that_are_there() -> None:
    made = table(line(1, loss=1.0), line(5, loss=5.0))
    made.add([line(3, loss=3.0, extra=1.0), line(0, loss=0.0)])
    assert made.steps.tolist() == [0, 1, 3, 5]
    assert made.column("loss").tolist() == [0, 1, 3, 5]
    np.testing.assert_array_equal(made.column("extra"), [np.nan, np.nan, 1.0, np.nan])


def test_it_grows_past_its_first_room() -> None:
    made = Table()
    for start in range(0, 1000, 10):
        made.add([line(start + i, loss=float(start + i)) for i in range(10)])
    made.add([line(5000, other=1.0)])
    assert made.rows == 1001
    assert made.column("loss")[:1000].tolist() == list(range(1000))
    assert math.isnan(made.column("loss")[1000])
    assert made.column("other")[1000] == 1


def test_what_is_no_number_is_nan() -> None:
    odd = {"text": "0.5", "list": [1], "true": True, "none": None, "huge": 10**400, "inf": math.inf}
    made = table(line(1, loss=1, **odd))
    assert made.column("loss").tolist() == [1.0]
    for name in ("text", "list", "true", "none", "huge"):
        assert math.isnan(made.column(name)[0]), name
    assert made.column("inf")[0] == math.inf, "a loss that overflowed is told as it is"
