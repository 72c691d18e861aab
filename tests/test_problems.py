"""Pydantic's problems in words: the key, what is wrong, and the nearest key of its section."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from palate.config import ConfigError, build_config
from palate.problems import explain
from palate.sections import Section


class Color(Section):
    red: int = Field(0, ge=0)
    green: int = 0


class Shape(Section):
    kind: str
    sides: tuple[int, int] = (1, 1)
    colors: list[Color] = Field([])
    named: dict[str, Color] = Field({})
    border: Color | None = None
    fill: Color | str = "none"

    @model_validator(mode="after")
    def _no_line(self) -> Shape:
        if self.kind == "line":
            raise ValueError("a line is no shape")
        return self


def said(raw: Any, under: str = "") -> str:
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate(raw)
    return explain(caught.value, Shape, under)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "'kind' is missing"),
        ({"kind": "a", "side": 1}, "unknown key 'side'; did you mean 'sides'?"),
        ({"kind": "a", "border": {"rad": 1}}, "unknown key 'border.rad'; did you mean 'red'?"),
        ({"kind": "a", "border": {"zzz": 1}}, "unknown key 'border.zzz'; valid: green, red"),
        (
            {"kind": "a", "colors": [{}, {"gren": 1}]},
            "unknown key 'colors.2.gren'; did you mean 'green'?",
        ),
        (
            {"kind": "a", "named": {"sky": {"rde": 1}}},
            "unknown key 'named.sky.rde'; did you mean 'red'?",
        ),
        (
            {"kind": "a", "colors": [{"red": -1}]},
            "'colors.1.red': Input should be greater than or equal to 0 (got -1)",
        ),
        ({"kind": "line"}, "a line is no shape"),
    ],
)
def test_one_problem(raw: Any, words: str) -> None:
    assert said(raw) == words


def test_places_are_counted_from_one_only_in_lists() -> None:
    assert said({"kind": "a", "sides": [3, "b"]}).startswith("'sides.2': Input should be a valid")
    assert "'7" in said({"kind": "a", 7: 1})


def test_a_choice_between_a_section_and_a_text() -> None:
    assert "'fill.Color.blu'; valid: green, red" in said({"kind": "a", "fill": {"blu": 1}})


def test_all_problems_and_where_the_section_stands() -> None:
    assert said({"sides": [1], "kin": "a"}, under="shape").split("; ")[::3] == [
        "'shape.kind' is missing",
        "did you mean 'kind'?",
    ]


def test_addresses_are_not_shown_for_a_key_may_be_in_them() -> None:
    assert "secret" not in said({"kind": "a", "border": "https://me:secret@host/v1"})


def test_long_values_are_cut() -> None:
    words = said({"kind": 1, "border": "x" * 500})
    assert len(words) < 300
    assert "xxx…)" in words


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"temprature": 1}, "'rollout.temprature'; did you mean 'temperature'?"),
        ({"judge": {"patern": "x"}}, "'rollout.judge.patern'; did you mean 'pattern'?"),
        (
            {"judge": {"kind": "llm", "server": {"timout": 1}}},
            "'rollout.judge.server.timout'; did you mean 'timeout'?",
        ),
        ({"server": {"adaptor": "x"}}, "'rollout.server.adaptor'; did you mean 'adapter'?"),
    ],
)
def test_sections_that_may_be_left_out_know_their_keys(rollout: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({"model": "m", "data": "d", "rollout": rollout})
    assert words in str(caught.value)
