from __future__ import annotations

from dataclasses import dataclass

import pytest

from palate.losses.params import build_params, param


@dataclass(frozen=True)
class Made:
    """One field of each kind."""

    rate: float = param(0.5, "Inside (0, 1].", above=0.0, at_most=1.0)
    share: float = param(0.5, "Inside [0, 1).", at_least=0.0, below=1.0)
    every: int = param(8, "Whole.", at_least=1)
    kind: str = param("sum", "One of two.", choices=("sum", "mean"))
    note: str = param("", "Any text.")
    flag: bool = param(False, "Yes or no.")
    weight: float | None = param(None, "From the data.", above=0.0)


def build(**given: object) -> Made:
    return build_params(Made, given, "made")


def test_what_is_not_given_keeps_its_default() -> None:
    assert build() == Made()
    assert build(rate=1) == Made(rate=1)


@pytest.mark.parametrize(
    "given",
    [
        {"rate": 1.0},
        {"rate": 1e-9},
        {"share": 0},
        {"share": 0.999},
        {"every": 1},
        {"every": 3.0},
        {"kind": "mean"},
        {"note": "anything"},
        {"flag": True},
        {"weight": None},
        {"weight": 2},
    ],
)
def test_the_ends_of_a_range(given: dict[str, object]) -> None:
    (name,) = given
    assert getattr(build(**given), name) == given[name]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0}, "method.rate of made must be above 0.0, got 0"),
        ({"rate": 1.01}, "must be at most 1.0, got 1.01"),
        ({"share": -0.1}, "must be at least 0.0"),
        ({"share": 1.0}, "must be below 1.0"),
        ({"rate": float("inf")}, "must be finite, got inf"),
        ({"rate": None}, "must be a number, got None"),
        ({"rate": "0.5"}, "must be a number, got '0.5'"),
        ({"every": 1.5}, "must be a whole number, got 1.5"),
        ({"every": True}, "must be int, got True"),
        ({"kind": "median"}, "must be one of sum, mean, got 'median'"),
        ({"kind": 1}, "must be one of sum, mean, got 1"),
        ({"note": 1}, "must be text, got 1"),
        ({"flag": 1}, "must be bool, got 1"),
        ({"weight": 0}, "must be above 0.0"),
        ({"weight": True}, "must be a number, got True"),
        ({"weigth": 1}, "no parameter 'weigth'; did you mean 'weight'"),
        ({"zzz": 1}, "its parameters: rate, share, every, kind, note, flag, weight"),
    ],
)
def test_mistakes_are_named_with_what_would_be_right(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(**given)
