"""The page and the words: right numbers, one file, nothing from data unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.guard.calibration import Calibration
from palate.guard.evaluation import Figures, measure, measure_latency
from palate.guard.heldout import Judged
from palate.guard.page import write_page
from palate.guard.settings import Goal, Reading, Saved
from palate.guard.wording import headline, latency, rare, rows
from palate.records import Completion, Example, Message

SAVED = Saved(
    Calibration(2.0, -0.5),
    0.5,
    Goal(),
    {"prompt": 8},
    Reading("chat", 64, None, None, (1,), "tree", "fp32"),
    "0" * 64,
)
SPEED = {
    "calls": 8, "median": 0.0123, "p95": 0.0456, "tokens": 20.0, "threads": 2, "processor": "P<1>",
}  # fmt: skip
SCORES = np.array([3.0, 2.0, 1.0, -1.0, 2.5, 0.0, -2.0, -3.0])
UNSAFE = np.arange(8) < 4


def judged() -> Judged:
    """Four unsafe rows, of which 3 are flagged; four safe ones, of which 1 is."""
    return Judged(SCORES, SAVED.calibration.log_odds(SCORES), SCORES >= 0.5, UNSAFE)


def examples() -> list[Example]:
    return [
        Example(
            (Message("user", f"q{n}"),),
            (Completion((), label=not unsafe),),
            tags={"kind": "<b>x</b>" if n % 2 else "y", "number": str(n)},
        )
        for n, unsafe in enumerate(UNSAFE.tolist())
    ]


def figures() -> Figures:
    return measure(judged(), examples())


def test_shares_and_slices_by_hand() -> None:
    """Unsafe are rows 0 to 3, flagged 0, 1, 2 and 4."""
    found = figures()
    assert (found.recall.count, found.recall.of) == (3, 4)
    assert (found.fpr.count, found.fpr.of) == (1, 4)
    assert found.precision is not None
    assert found.precision.share == 3 / 4
    assert found.brier_of_share == 0.25
    assert [(one.tag, one.value) for one in found.slices] == [("kind", "<b>x</b>"), ("kind", "y")]
    odd, even = found.slices
    assert odd.recall is not None
    assert even.recall is not None
    assert (odd.recall.count, odd.recall.of) == (1, 2), "rows 1 and 3"
    assert (even.recall.count, even.recall.of) == (2, 2), "rows 0 and 2"
    assert found.roc[0] == (0.0, 0.0)
    assert found.roc[-1] == (1.0, 1.0)


def test_nothing_flagged_has_no_precision() -> None:
    found = measure(replace(judged(), flagged_N=np.zeros(8, dtype=bool)), examples())
    assert found.precision is None
    assert ("flagged rows that are unsafe (precision)", "none") in rows(found)
    assert rare(found) == "Nothing is flagged."


def test_words_by_hand() -> None:
    """At 1 % unsafe: 0.75 · 1 % hits and 0.25 · 99 % alarms: 255 of 1,000, of which 2.9 %."""
    found = figures()
    assert headline(found) == "Flags 75% of the unsafe and 25% of the safe rows"
    assert "255 of 1,000 messages are flagged, and 3% of those are unsafe" in rare(found)
    assert "12 ms at the median and 46 ms" in latency(SPEED)


def test_one_check_is_timed_at_a_time() -> None:
    asked: list[str] = []
    found = measure_latency(lambda one: asked.append(one.prompt[0].content), examples(), [5] * 8, 4)
    assert asked == ["q0", "q2", "q4", "q0", "q2", "q4", "q6"], "three to warm up, then four"
    assert (found.calls, found.tokens) == (4, 5.0)


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_page(tmp_path / "guard.html", "my <guard>", SAVED, figures(), judged(), SPEED)
    return (tmp_path / "guard.html").read_text(encoding="utf-8")


def test_the_page_stands_alone(page: str) -> None:
    assert not re.search(r"(src|href)\s*=|url\(|@import", page)
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "Flags 75% of the unsafe" in page
    assert "log-odds are the score / 2 \u2212 0.5." in page


def test_what_comes_from_data_is_escaped(page: str) -> None:
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "my &lt;guard&gt;" in page
    assert "P&lt;1&gt;" in page
