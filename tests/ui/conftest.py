"""The site in a thread over a small store, and a real browser where there is one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

from palate.records import Arrival, Completion, Example, Message, Signal
from palate.store.database import Store
from palate.ui.running import Running
from palate.ui.settings import Settings

TOKEN = "a-token-for-tests"
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60.0  # seconds until a test gives up waiting


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until the condition gives something true, and return that."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


def asked(question: str, *answers: str, system: str | None = None, **tags: str) -> Example:
    """An interaction: a question, and what models a, b, … answered."""
    prompt = [Message("system", system)] if system else []
    return Example(
        (*prompt, Message("user", question)),
        tuple(
            Completion((Message("assistant", answer),), source=f"model-{'abcdefgh'[at]}")
            for at, answer in enumerate(answers)
        ),
        tags=tags,
    )


def fill(db: Path, pairs: int = 12, singles: int = 6) -> None:
    """A store with pairs (two answers each) and single answers, one of which has a thumb."""
    arrivals = [
        Arrival(asked(f"Question {n}?", f"Yes, {n}.", f"No, not {n}, never."), (f"t:pair-{n}",))
        for n in range(pairs)
    ]
    arrivals += [
        Arrival(asked(f"Single {n}?", f"Perhaps {n}."), (f"t:single-{n}",)) for n in range(singles)
    ]
    arrivals.append(Arrival(Signal(("t:single-0",), "thumb", label=True, by="customer")))
    with Store.open(db) as store:
        store.add(arrivals, "tests")


class Open:
    """A running site; `client` is a signed-in owner's, `url` where it is."""

    def __init__(self, settings: Settings) -> None:
        self.said: list[str] = []
        self.running = Running(settings, self.said.append, lambda site: self.started.set())
        self.started = threading.Event()
        self.site = self.running.site
        self.url = self.site.url
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, follow_redirects=True)

    def _run(self) -> None:
        asyncio.run(self.running.run())

    def __enter__(self) -> Open:
        self.thread.start()
        assert self.started.wait(PATIENCE)
        self.client.get("/", params={"token": self.site.settings.token})
        self.client.headers["x-csrf-token"] = self.site.people.form_token(self.site.people.owner)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.running.end()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def annotator(self, name: str) -> httpx.Client:
        """A client with the session of an annotator, signed in by the link."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE, follow_redirects=True)
        link = self.site.people.link(self.url, name)
        assert client.get(link).status_code == 200
        person = self.site.people.by_token(httpx.URL(link).params["token"], name)
        assert person is not None
        client.headers["x-csrf-token"] = self.site.people.form_token(person)
        return client

    @property
    def link(self) -> str:
        """What the owner opens."""
        return self.site.people.link(self.url)


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Open]:
    """A site over the store and the runs in `folder`."""
    wanted = {"db": str(folder / "palate.db"), "runs": folder / "runs", "port": 0, "token": TOKEN}
    with Open(Settings(**{**wanted, **settings})) as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Open]:
    """A site over twelve pairs and six single answers, without runs."""
    fill(tmp_path / "palate.db")
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; tests that want one are skipped where there is none.

    Of one module: playwright holds an event loop in this thread for as long as it is open, and
    tests of other modules run loops of their own.
    """
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(chromium: Any) -> Iterator[Any]:
    """A page of a fresh browser; what its scripts complain about fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.problems = problems
    yield page
    context.close()
    assert not problems, problems
