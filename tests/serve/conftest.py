"""A server over a tiny model, in an event loop of a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import openai
import pytest
from tests.tiny import save_tiny

from palate.model import place
from palate.serve.server import Running
from palate.serve.settings import Entry, Settings

PATIENCE = 60.0  # seconds until a test gives up waiting


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until the condition gives something true, and return that."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen")


class Served:
    """A running server; `client` is the official one, which does not try again.

    It computes in fp32, or in bf16, whatever the processor is fast at: only in fp32 is an answer
    what the same conversation gets alone.
    """

    def __init__(self, entries: list[Entry], *, bf16: bool = False, **settings: Any) -> None:
        self.bf16 = bf16
        wanted = {"port": 0, "db": None, "max_tokens": 24, "drain": 20, **settings}
        self.said: list[str] = []
        self.running = Running(entries, Settings(**wanted), self.said.append)
        self.key = wanted.get("api_key") or "unused"
        self.loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            await self.running.run()

        try:
            asyncio.run(main())
        except ValueError as error:
            self.error = error

    def __enter__(self) -> Served:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, "fast_bf16", lambda: self.bf16)
            self.thread.start()
            until(lambda: self.error or self.running.app.state == "ready", "the server's start")
        if self.error is not None:
            raise self.error
        self.url = f"{self.running.url}/v1"
        self.client = openai.OpenAI(base_url=self.url, api_key=self.key, max_retries=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.ask()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def ask(self) -> None:
        """What a signal does."""
        if self.loop is not None and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.running.ask)

    def say(self, text: str = "hello", **more: Any) -> Any:
        """One completion."""
        wanted = {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}
        return self.client.chat.completions.create(**wanted)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="session")
def served(tiny: Path) -> Iterator[Served]:
    """One server that many tests ask, without a store."""
    with Served([Entry("tiny", str(tiny))]) as running:
        yield running
