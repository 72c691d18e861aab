"""The trace: what a token looks like, what is said aloud, and who may be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.arrivals import chat

from palate.store.database import Store
from palate.store.reading import stored
from palate.ui.data.tracing import Tracing, shown, spoken, visible


def test_whitespace_is_made_visible() -> None:
    assert visible(" a\tb\n") == "·a⇥b↵\n"
    assert visible("") == "∅"


def test_what_is_trained_on_is_said_aloud_in_brackets() -> None:
    assert spoken(["Q", "A", "B", "C"], [False, True, True, False]) == "Q⟦AB⟧C"
    assert spoken(["A"], [True]) == "⟦A⟧"


def test_tokens_know_their_place_their_mask_and_their_segment() -> None:
    answer = {"name": "chosen", "begin": 7, "ids": [1, 2], "texts": ["a", " "]}
    raw = {"examples": [{"parts": [{**answer, "trained": [False, True], "segments": [0, 3]}]}]}
    (part,) = shown(raw)["examples"][0]["parts"]
    assert part["tokens"] == [
        {"id": 1, "at": 7, "text": "a", "kind": "untrained", "segment": 0},
        {"id": 2, "at": 8, "text": "·", "kind": "trained", "segment": 3},
    ]
    assert (part["trained"], part["spoken"]) == (1, "a⟦ ⟧")


def test_only_a_known_run_or_a_name_is_asked(tmp_path: Path) -> None:
    with Store.open(tmp_path / "palate.db") as store:
        store.add([chat("a?", "b")], "log")
        (one,) = stored(store)
        work = Tracing(store, str(tmp_path / "palate.db"), tmp_path / "runs")
        for run, model in (("", ""), ("x", "m")):
            with pytest.raises(ValueError, match="choose a run"):
                work.start(one.id, run, model)
        with pytest.raises(ValueError, match="named by"):
            work.start(one.id, "", "a\nb")
        with pytest.raises(LookupError):
            work.start(one.id, "../../etc", "")
        assert work.told(one.id, "", "m")["job"] is None
