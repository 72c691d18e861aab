"""Counts over time: days, then months, then years, without gaps."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.arrivals import chat

from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.reading import stored
from palate.ui.data.overview import Overview, over_time


@pytest.mark.parametrize(
    ("times", "unit", "bars"),
    [
        (["2026-02-27", "2026-03-01", "2026-03-01"], "day", [1, 0, 2]),
        (["2025-11-30", "2026-02-01"], "month", [1, 0, 0, 1]),
        (["1980-01-01", "1986-05-05"], "year", [1, 0, 0, 0, 0, 0, 1]),
        ([], "day", []),
    ],
)
def test_bars_have_no_gaps(tmp_path: Path, times: list[str], unit: str, bars: list[int]) -> None:
    with Store.open(tmp_path / "palate.db") as store:
        store.add([chat(f"{n}", "a", time=f"{t}T10:00:00Z") for n, t in enumerate(times)], "log")
        found = over_time(store)
    if unit == "month":  # 64 days are two more than there is room for
        assert [bar["when"] for bar in found["bars"]] == [
            "2025-11",
            "2025-12",
            "2026-01",
            "2026-02",
        ]
    assert (found["unit"], [bar["count"] for bar in found["bars"]]) == (unit, bars)


def test_what_has_no_time_is_counted_apart(tmp_path: Path) -> None:
    with Store.open(tmp_path / "palate.db") as store:
        store.add([chat("a", "b"), chat("c", "d", time="yesterday")], "log")
        assert over_time(store) == {"unit": "day", "bars": [], "untimed": 2}


def test_what_has_come_and_gone_is_seen(tmp_path: Path) -> None:
    with Store.open(tmp_path / "palate.db") as store:
        shown = Overview(store)
        assert shown.facts()["sources"] == []
        store.add([chat("a", "b", time="2026-01-01T10:00:00Z")], "log")
        facts = shown.facts()
        assert facts["counts"] == {"interactions": 1, "erased": 0}
        assert facts["over_time"]["bars"] == [{"when": "2026-01-01", "count": 1}]
        assert [one["interactions"] for one in facts["sources"]] == [1]
        assert shown.facts() == facts
        erase(store, [one.id for one in stored(store)])
        gone = shown.facts()
        assert gone["counts"] == {"interactions": 0, "erased": 1}
        assert (gone["over_time"]["bars"], gone["sources"][0]["interactions"]) == ([], 0)
