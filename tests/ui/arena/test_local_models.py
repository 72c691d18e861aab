"""A duel of models on this machine, through a real `palate serve`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import pytest
from tests.tiny import save_tiny
from tests.ui.arena.conftest import Duels
from tests.ui.conftest import serving, until

from palate.ui.arena.routes import arena_of

SLOW = 400.0
"""Seconds for a process to import torch and load two tiny models on a busy machine."""


@pytest.mark.slow
def test_two_models_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded when they are first asked, one process for both, started again after its death."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr("tests.ui.conftest.PATIENCE", SLOW)
    models = tuple(str(save_tiny(tmp_path / name)) for name in ("one", "two"))
    with serving(tmp_path, models=models) as site:
        site.client.timeout = httpx.Timeout(SLOW)
        duels = Duels(site, None, None)  # type: ignore[arg-type]  # no servers of the tests'
        arena = arena_of(site.site)
        served = arena.serving()
        assert served is not None
        assert served.state == "off", "nobody has asked yet"
        duel = duels.ask("hello", max_tokens=6)
        events = duels.follow(duel)
        last = events[-1][1]
        assert {last[side]["finish"] for side in ("left", "right")} <= {"stop", "length"}, last
        states = [data["words"] for name, data in events if name == "state"]
        assert any(words.startswith("loading") for words in states)
        if last["votable"]:  # a tiny model may say nothing
            assert set(duels.vote(duel, "2").json()["names"].values()) == {"one", "two"}
        served = arena.serving()
        assert served is not None
        refused = httpx.get(f"{served.url}/models", timeout=60)
        assert refused.status_code == 401, "others on this machine may not ask"
        assert arena._child is not None
        process = arena._child._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: (found := arena.serving()) and found.state == "failed", "its death")
        assert "signal 9" in site.client.get("/arena.json").json()["serving"]["why"]
        again = duels.ask("once more", max_tokens=3)
        finishes = {duels.follow(again)[-1][1][side]["finish"] for side in ("left", "right")}
        assert finishes <= {"stop", "length"}
        second = arena._child._process
        assert second is not None
    assert second.poll() is not None, "it has ended with the site"
