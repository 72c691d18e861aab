"""The proxy in this process's event loop of its own thread, and the program as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web.capture.upstream import Provider, chat

REPO = Path(__file__).resolve().parents[3]
PATIENCE = 30.0  # seconds until a test gives up waiting


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until the condition gives something true, and return that."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


class Program:
    """`palate capture` as a process; `health` reads its counts."""

    def __init__(self, folder: Path, upstream: str, script: str | None = None, **settings: Any):
        self.folder = folder
        wanted = {
            "upstream": upstream,
            "port": 0,
            "db": str(folder / "palate.db"),
            "spill": str(folder / "spill"),
            "drain": 10,
            **settings,
        }
        self.log = (folder / "log.txt").open("ab")
        self.begins = self.log.tell()
        code = script or PROGRAM
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(wanted)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO / "src"), str(REPO)])},
        )
        self.url = until(self._address, "the proxy's start")
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.said()
        for line in self.said().splitlines():
            if "passes to" in line:
                return line.split()[2]
        return None

    def said(self) -> str:
        """What this process wrote to standard error."""
        return (self.folder / "log.txt").read_bytes()[self.begins :].decode()

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/palate/health").json()
        return found

    def say(self, text: str, **more: Any) -> httpx.Response:
        body = {"model": "small-1", "messages": [{"role": "user", "content": text}], **more}
        return self.client.post("/v1/chat/completions", json=body)

    def stop(self) -> dict[str, Any]:
        """End it politely; its last counts."""
        self.client.close()
        self.process.terminate()
        out, _ = self.process.communicate(timeout=PATIENCE)
        self.log.close()
        found: dict[str, Any] = json.loads(out)
        return found

    def kill(self) -> None:
        """kill -9."""
        self.client.close()
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        self.log.close()


PROGRAM = """
import json, sys
from palate.cli.capturing import run_capture
run_capture(None, [], json.loads(sys.argv[1]), as_json=True)
"""

WITH_SINK = """
import json, sys
from palate.progress import Plain
from palate.web.capture.serve import serve
from palate.web.capture.settings import load_settings
config = load_settings(None, [], json.loads(sys.argv[1]))
command = (sys.executable, "-m", "tests.web.capture.sink")
print(json.dumps(serve(config, Plain().note, command)))
"""
"""The program with `tests.web.capture.sink` in the place of the store."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(chat) as running:
        yield running


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts the program; those still running at the end of the test are killed."""
    started: list[Program] = []

    def start(upstream: str, script: str | None = None, **settings: Any) -> Program:
        started.append(Program(tmp_path, upstream, script, **settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
