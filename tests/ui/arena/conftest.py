"""An arena of two servers that answer what a test tells them to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.judge.chat_server import ChatServer, chat_server
from tests.ui.arena.chat_stream import streams
from tests.ui.conftest import Open, serving

KEY = "sk-a-secret-of-the-tests"


@dataclass
class Duels:
    """A site, and the servers of its two contenders, which are called `new` and `old`."""

    site: Open
    new: ChatServer
    old: ChatServer

    def ask(self, said: str = "hello", client: httpx.Client | None = None, **more: Any) -> Any:
        """Ask both; `{"talk", "duel"}`."""
        answer = (client or self.site.client).post("/arena/ask", json={"said": said, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def follow(self, duel: Any, client: httpx.Client | None = None) -> list[tuple[str, Any]]:
        """All events of a duel."""
        path = f"/arena/talk/{duel['talk']}/duel/{duel['duel']}"
        found = []
        with (client or self.site.client).stream("GET", path) as response:
            assert response.status_code == 200
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    found.append((name, json.loads(line[6:])))
        return found

    def vote(self, duel: Any, choice: str, client: httpx.Client | None = None) -> httpx.Response:
        """Vote on a duel."""
        body = {"duel": duel["duel"], "choice": choice}
        path = f"/arena/talk/{duel['talk']}/vote"
        return (client or self.site.client).post(path, json=body)

    def talk(self, duel: Any) -> Any:
        """The conversation as its page has it."""
        return self.site.client.get(f"/arena/talk/{duel['talk']}.json").json()["talk"]


@pytest.fixture
def duels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Duels]:
    monkeypatch.setenv("ARENA_TEST_KEY", KEY)
    with ExitStack() as stack:
        new, old = (stack.enter_context(chat_server()) for _ in range(2))
        new.otherwise, old.otherwise = streams("I am ", "new."), streams("I am ", "old.")
        models = (f"{new.url}#new key_env=ARENA_TEST_KEY", f"{old.url}#old")
        site = stack.enter_context(serving(tmp_path, models=models))
        yield Duels(site, new, old)
