"""Agreement beyond chance, against values worked out by hand."""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path

import pytest

from palate.judge.agreement import agreement

SHARED = Path(os.environ.get("PALATE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def said(table: dict[str, int]) -> tuple[list[str], list[str]]:
    """The words of two judges, from how often each pair of words was said."""
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_two_words() -> None:
    found = agreement(*said({"yy": 20, "yn": 5, "ny": 10, "nn": 15}))
    # p_o = 35/50; p_e = .5·.6 + .5·.4 = .5; κ = .2/.5.
    assert (found.count, found.same, found.share) == (50, 35, 0.7)
    assert found.kappa == pytest.approx(0.4)
    # Diagonal: .4(.5 − 1.1·.3)² + .3(.5 − .9·.3)² = .4·.0289 + .3·.0529 = .02743; off it:
    # .3²(.1·1.1² + .2·.9²) = .09·.283 = .02547; last: (.35 − 1 + .7)² = .0025.
    # SE² = (.02743 + .02547 − .0025)/(50·.5⁴) = .0504/3.125, SE = .126996.
    assert found.low == pytest.approx(0.4 - 1.959964 * 0.126996, abs=1e-5)
    assert found.high == pytest.approx(0.4 + 1.959964 * 0.126996, abs=1e-5)


def test_three_words() -> None:
    found = agreement(*said({"11": 4, "22": 3, "00": 1, "12": 1, "20": 1}))
    # Rows 1: 5, 2: 4, 0: 1; columns 1: 4, 2: 4, 0: 2. p_o = .8; p_e = (20 + 16 + 2)/100 = .38.
    assert found.kappa == pytest.approx((0.8 - 0.38) / 0.62)


def test_the_ends() -> None:
    assert agreement("ab" * 5, "ab" * 5).kappa == pytest.approx(1)
    assert agreement("ab" * 5, "ba" * 5).kappa == pytest.approx(-1)
    assert agreement("aabb" * 5, "abab" * 5).kappa == pytest.approx(0)
    assert agreement("ab", "cd").kappa == pytest.approx(0)
    assert agreement("aaa", "aaa").kappa is None
    assert agreement("", "").kappa is None
    with pytest.raises(ValueError, match="the same things"):
        agreement("a", "ab")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_the_annotators_of_a_published_test_set() -> None:
    """PandaLM's three annotators: 0 is a tie. The paper (arXiv 2306.05087) calls it consistent."""
    rows = json.loads((SHARED / "pandalm_testset.json").read_text("utf-8"))
    columns = [[row[f"annotator{n}"] for row in rows] for n in (1, 2, 3)]
    found = [agreement(one, other) for one, other in combinations(columns, 2)]
    # All three agree on 879 of 999 rows, and no row has three words: each of the other 120 has
    # one pair of annotators that agrees, so that the three counts sum to 3·879 + 120.
    assert sum(one.same for one in found) == 3 * 879 + 120
    assert all(one.kappa is not None and 0.8 < one.kappa < 1 for one in found)
