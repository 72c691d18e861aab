"""`palate serve` from its start to its end: socket, models, signals, draining."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from palate.guard.check import Guard
from palate.serve.app import App
from palate.serve.chat import Chat
from palate.serve.guarding import Gate
from palate.serve.keeping import Keeper
from palate.serve.lane import Told
from palate.serve.metrics import Metrics
from palate.serve.models import Served, open_models
from palate.serve.scheduler import Scheduler
from palate.serve.settings import Entry, Settings
from palate.web.listening import (
    BACKLOG,
    SIGNALS,
    Say,
    Server,
    bind,
    fastest_loop,
    is_loopback,
    patient,
    place_of,
    server_settings,
)

_LOOK = 0.05  # seconds between looks at whether everything has ended
_GRACE = 5  # seconds for connections to close once their answers have ended


Tell = Callable[[str, list[str]], None]
"""Is told the server's URL and the models' names, once it answers."""


def serve(
    entries: Sequence[Entry],
    settings: Settings,
    say: Say,
    *,
    tell: Tell | None = None,
    holder: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, and then until the answers under way have ended.

    The socket is open while the models load: health says so, and requests are told to come
    again. The end of `holder`, a file descriptor that another program keeps open, ends the
    server too. Raises `ValueError` for models that cannot be served, `ConfigError` for the rest.
    """
    running = Running(entries, settings, patient(say, "palate serve"), tell, holder)
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(running.run())


class Running:
    """One server; made inside or outside the event loop, run inside it once."""

    def __init__(
        self,
        entries: Sequence[Entry],
        settings: Settings,
        say: Say,
        tell: Tell | None = None,
        holder: int | None = None,
    ) -> None:
        self._entries, self._settings, self._say = entries, settings, say
        self._tell, self._holder = tell, holder
        self.metrics = Metrics()
        self.app = App(
            self.metrics,
            api_key=settings.api_key,
            loopback=is_loopback(settings.host),
            say=say,
        )
        self.scheduler: Scheduler | None = None
        self.url = ""
        self._server: Server | None = None
        self._keeper: Keeper | None = None
        self._gate: Gate | None = None
        self._asked = 0
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen, load, serve, drain."""
        listening = bind(self._settings.host, self._settings.port)
        self._server = Server(server_settings(self.app, _GRACE))
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; a thread
                loop.add_signal_handler(number, self.ask)
        if self._holder is not None:
            _when_it_ends(self._holder, loop, self.ask)
        listening.listen(BACKLOG)
        self.url = place_of(listening)
        serving = asyncio.create_task(self._server.serve([listening]))
        try:
            await self._start(loop)
            await serving
        finally:
            self._server.should_exit = True
            await serving
            listening.close()
            await self._end()

    def ask(self) -> None:
        """Drain at the first call, and end at once at the second: what signals do."""
        self._asked += 1
        assert self._server is not None, "asked while it runs"
        if self._asked > 1:
            self._server.should_exit = self._server.force_exit = True
            for number in SIGNALS:  # the third is anybody's: it kills
                with suppress(NotImplementedError, RuntimeError, ValueError):
                    asyncio.get_running_loop().remove_signal_handler(number)
            return
        self._say("draining: answers under way may end (again to stop at once)")
        self.app.state = "draining"
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Wait for the answers under way; new requests are refused meanwhile."""
        assert self._server is not None, "it runs"
        chat, patience = self.app.chat, self._settings.drain
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while chat is not None and chat.open:
                    await asyncio.sleep(_LOOK)
        if chat is not None and chat.open:
            self._server.force_exit = True
        self._server.should_exit = True

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load everything, and open for requests."""
        settings = self._settings
        if settings.db is not None:
            self._keeper = Keeper(settings.db, settings.spill, settings.drain, self._say)
            await self._keeper.start()
        load = partial(open_models, self._entries, settings, self._say)
        models: list[Served] = await loop.run_in_executor(None, load)
        if settings.guard is not None:
            guard = await loop.run_in_executor(None, Guard.load, settings.guard)
            self._gate = Gate(guard, self.metrics)
        if self._asked:
            return
        lanes = list({id(served.lane): served.lane for served in models}.values())
        self.scheduler = Scheduler(lanes, settings.queue, _teller(loop), self._say)
        self._watch(self.scheduler)
        self.scheduler.start()
        self.app.alive = self.scheduler.is_alive
        self.app.models = {served.name: served for served in models}
        self.app.keeper = self._keeper
        self.app.chat = Chat(
            self.app.models, self.scheduler, settings, self.metrics, self._gate, self._keeper
        )
        # What is there now stays: the collector need not look at it again while tokens wait.
        gc.collect()
        gc.freeze()
        self.app.state = "ready"
        self._say(f"{self.url}/v1 serves {', '.join(self.app.models)}")
        if self._tell is not None:
            self._tell(self.url, list(self.app.models))

    def _watch(self, scheduler: Scheduler) -> None:
        watch = self.metrics.watch
        watch("palate_queue", "Requests that wait for a row.", lambda: scheduler.waiting)
        watch("palate_running", "Answers on their way.", lambda: scheduler.running)
        watch("palate_cache_bytes", "Memory of keys and values.", lambda: scheduler.bytes)

    async def _end(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
        if self.scheduler is not None:
            self.scheduler.close()
        if self._gate is not None:
            self._gate.close()
        if self._keeper is not None:
            await self._keeper.close()


def _teller(loop: asyncio.AbstractEventLoop) -> Callable[[list[Told]], None]:
    """Hands what a step tells to the event loop, in one call."""

    def deliver(told: list[Told]) -> None:
        for job, piece in told:
            job.pieces.put_nowait(piece)

    def tell(told: list[Told]) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            loop.call_soon_threadsafe(deliver, told)

    return tell


def _when_it_ends(holder: int, loop: asyncio.AbstractEventLoop, ask: Callable[[], None]) -> None:
    """Ask in the loop once nothing more can be read, as when the program that held it is gone."""

    def wait() -> None:
        while os.read(holder, 1024):  # not through sys.stdin: at the exit its lock would be held
            pass
        with suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(ask)

    threading.Thread(target=wait, name="holder", daemon=True).start()
