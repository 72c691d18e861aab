"""The process with the models: its states, its end with ours, its failures in one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ui.conftest import until

from palate.ui.arena import child
from palate.ui.arena.child import KEY, Child

GOOD = """
import json, os, sys, time
print("palate serve: loading tiny …", file=sys.stderr, flush=True)
time.sleep(0.3)
told = {"url": "http://127.0.0.1:1/v1", "models": sys.argv[-1:]}
print(json.dumps(told), flush=True)
open(os.environ["PLACE"], "w").write(f"{os.getpid()} {os.environ['PALATE_SERVE_KEY']} "
    + os.environ.get("PALATE_UI_TOKEN", "no token"))
sys.stdin.read()
open(os.environ["PLACE"], "a").write(" ended")
"""
BAD = """
import sys
print("error: there is no model 'gone': name a folder", file=sys.stderr)
sys.exit(2)
"""
DIES = (
    "import os, signal, sys; print('words', file=sys.stderr); os.kill(os.getpid(), signal.SIGKILL)"
)


@contextmanager
def running(
    code: str, monkeypatch: pytest.MonkeyPatch, place: Path, idle: float = 60.0
) -> Iterator[Child]:
    monkeypatch.setenv("PLACE", str(place))
    monkeypatch.setenv("PALATE_UI_TOKEN", "secret")
    monkeypatch.setattr(child, "_PROGRAM", (sys.executable, "-c", code))
    one = Child(["--", "tiny"], idle)
    try:
        yield one
    finally:
        one.close()


def test_it_loads_is_ready_and_ends_with_us(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    with running(GOOD, monkeypatch, place) as one:
        assert one.look().state == "off"
        assert one.start().state == "loading"
        until(lambda: one.look().note == "loading tiny …", "its words")
        ready = until(lambda: one.look().state == "ready" and one.look(), "the line")
        assert (ready.url, ready.names) == ("http://127.0.0.1:1/v1", ("tiny",))
        assert one.start() == ready, "it runs already"
        pid, key, token = until(lambda: place.exists() and place.read_text(), "it").split(" ", 2)
        assert key == ready.key
        assert key not in repr(ready)
        assert token == "no token", "what opens the site is none of its business"
    assert place.read_text().endswith(" ended"), "politely"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    until(lambda: one.look().state == "off", "its end")
    assert one.start().state == "off", "what was closed stays closed"


def test_a_failure_is_one_line_and_it_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(BAD, monkeypatch, tmp_path / "place") as one:
        one.start()
        failed = until(lambda: one.look().state == "failed" and one.look(), "the failure")
        assert failed.why == "there is no model 'gone': name a folder"
        monkeypatch.setattr(child, "_PROGRAM", (sys.executable, "-c", GOOD))
        one.start()
        until(lambda: one.look().state == "ready", "the second start")


def test_one_that_is_killed_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running(DIES, monkeypatch, tmp_path / "place") as one:
        one.start()
        failed = until(lambda: one.look().state == "failed" and one.look(), "its death")
        assert failed.why == "the process with the models was ended by signal 9: words"


def test_one_that_nobody_asks_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not while it is in use, however long that takes; and then it can be started again."""
    with running(GOOD, monkeypatch, tmp_path / "place", idle=0.2) as one:
        one.start()
        until(lambda: one.look().state == "ready", "the line")
        with one.used():
            until((tmp_path / "place").exists, "it")
            time.sleep(1.0)
            assert one.look().state == "ready"
        until(lambda: one.look().state == "off", "its end")
        one.start()
        until(lambda: one.look().state == "ready", "the second start")
    assert KEY not in os.environ
