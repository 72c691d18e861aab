"""Numbers in words."""

from __future__ import annotations

import pytest

from palate.evaluate import wording as w

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (w.decimal(-1.234), "−1.23"),
        (w.decimal(-0.001), "0.00"),
        (w.decimal(None), "not measured"),
        (w.compact(2e-4), "2e-4"),
        (w.compact(0.1), "0.1"),
        (w.compact(0.0), "0"),
        (w.compact(1234567.0), "1.23e6"),
        (w.compact(61234.0), "61,234"),
        (w.count(61234), "61,234"),
        (w.percent(0.214), f"21{NARROW}%"),
        (w.signed_percent(0.031), f"+3{NARROW}%"),
        (w.signed_percent(-0.004), f"0{NARROW}%"),
        (w.points(0.74), "+74 points"),
        (w.points(-0.01), "−1 point"),
        (w.points(0.0), "0 points"),
        (w.bounds((0.66, 0.81)), "[66,\u00a081]"),
        (w.bounds((-0.05, 0.81)), "[−5,\u00a081]"),
        (w.bounds(None), ""),
        (w.longer(0.03), f"3{NARROW}% longer"),
        (w.longer(-0.5), f"50{NARROW}% shorter"),
        (w.longer(0.001), "as long as before"),
        (w.duration(12.34), "12.3 s"),
        (w.duration(112.3), "1 min 52 s"),
        (w.duration(7260), "2 h 1 min"),
        (w.plural(1, "prompt"), "1 prompt"),
        (w.plural(2, "prompt"), "2 prompts"),
        (w.clean("a\tb\nc\x07"), "a\tb\nc\u2407"),
        (w.clean("\ud83d"), "?"),
    ],
)
def test_wording(said: str, expected: str) -> None:
    assert said == expected
