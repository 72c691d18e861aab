"""Lint as a job: its result, its age, and that it forgets what was erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.store.arrivals import chat
from tests.ui.conftest import until

from palate.records import Verdict
from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.reading import stored
from palate.ui.data import linting
from palate.ui.data.linting import Linting


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """60 pairs whose longer answer wins."""
    with Store.open(tmp_path / "palate.db") as store:
        store.add(
            [
                chat(
                    f"About {n}?", f"{n} is it, and more than that.", f"{n}.", verdict=Verdict(0, 1)
                )
                for n in range(60)
            ],
            "log",
        )
    return tmp_path / "palate.db"


def found(work: Linting, key: str = "") -> Any:
    return until(lambda: (told := work.told(key))["job"]["state"] != "running" and told, "lint")


def test_lint_links_to_the_interactions_and_ages(db: Path) -> None:
    with Store.open(db) as store:
        work = Linting(store, str(db), db.parent / "runs")
        assert work.told("")["job"] is None
        work.start("")
        told = found(work)
        assert told["job"]["state"] == "done", told["job"]["why"]
        report = told["report"]
        assert (report["given"], report["shape"]) == (60, "pair")
        (length,) = [one for one in report["findings"] if one["check"] == "length"]
        assert length["severity"] == "warning"
        ids = {one.id for one in stored(store)}
        for example in length["examples"]:
            (key,) = example["interactions"]
            assert key in ids
        json.dumps(told)
        assert told["later"] == {"interactions": 0, "events": 0}
        store.add([chat("new?", "yes", label=True)], "log")
        assert work.told("")["later"] == {"interactions": 1, "events": 1}
        erase(store, sorted(ids)[:1])
        gone = work.told("")
        assert (gone["report"], gone["dropped"]) == (None, True)
        work.close()


def test_without_scikit_learn_there_is_a_cure(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linting, "find_spec", lambda name: None)
    with Store.open(db) as store:
        work = Linting(store, str(db), db.parent / "runs")
        assert "pip install" in work.told("")["missing"]
        with pytest.raises(ValueError, match="pip install"):
            work.start("")


def test_a_snapshot_that_is_none_is_not_linted(db: Path) -> None:
    with Store.open(db) as store, pytest.raises(LookupError):
        Linting(store, str(db), db.parent / "runs").start("../../etc")
