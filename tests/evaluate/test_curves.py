"""Drawings of a classifier, read back from their SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from palate.evaluate.curves import Mark, draw_reliability, draw_roc, draw_scores


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 our own drawing


def numbers(text: str | None) -> list[float]:
    return [float(found) for found in re.findall(r"-?[\d.]+", text or "")]


def test_the_roc_goes_from_corner_to_corner_and_up_is_up() -> None:
    """A square of 300 from (44, 8): (0, 0) is at (44, 308), (1, 1) at (344, 8)."""
    svg = parsed(draw_roc([(0, 0), (0, 0.5), (1, 1)], Mark(0.5, 0.75, (0.5, 1.0))))
    line = svg.find("polyline")
    assert line is not None
    assert numbers(line.get("points")) == [44, 308, 44, 158, 344, 8]
    dot = svg.find("circle")
    assert dot is not None
    assert (float(dot.get("cx", 0)), float(dot.get("cy", 0))) == (194, 83)
    spans = [one for one in svg.findall("line") if one.get("stroke-width") == "1.5"]
    assert [(float(s.get("y1", 0)), float(s.get("y2", 0))) for s in spans] == [(158, 8)]


def test_a_mark_for_each_bin() -> None:
    svg = parsed(draw_reliability([Mark(0.1, 0.2), Mark(0.9, 0.8)]))
    assert len(svg.findall("circle")) == 2


def test_bars_hold_every_score_and_the_line_is_where_the_flag_begins() -> None:
    """From 0 to 8 in 40 bars of 0.2: the ends and the middle; 4 is half way."""
    svg = parsed(draw_scores([8.0, 8.0, 4.1], [0.0], 4.0))
    bars = svg.findall("rect")
    up = [bar for bar in bars if "second" in bar.get("fill", "")]
    assert [float(bar.get("x", 0)) for bar in up] == [320.5, 624.5]
    assert float(up[0].get("height", 0)) * 2 == float(up[1].get("height", 0)) == 74
    assert len(bars) == 3
    line = svg.find("line")
    assert line is not None
    assert float(line.get("x1", 0)) == 320
    assert [text.text for text in svg.findall("text")] == ["1", "2", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize("score", [0.0, -3.5, 1e-3, 1e6])
def test_equal_scores_are_drawn_too(score: float) -> None:
    svg = parsed(draw_scores([score], [score], score))
    assert len(svg.findall("rect")) == 2
