"""`palate ui` from its start to its end: socket, links, signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from palate.ui.app import application
from palate.ui.settings import Settings
from palate.ui.site import Site
from palate.ui.slow import Impatient
from palate.web.listening import (
    BACKLOG,
    SIGNALS,
    Say,
    Server,
    bind,
    fastest_loop,
    patient,
    place_of,
    server_settings,
)

_DRAIN = 2  # seconds for answers under way: event streams would never end by themselves


def run(settings: Settings, say: Say, ready: Callable[[Site], None] = lambda site: None) -> None:
    """Serve the site until SIGINT or SIGTERM; `ready` is called once it listens.

    Raises `ConfigError` where the address cannot be had, `StoreError` for the store.
    """
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(Running(settings, patient(say, "palate ui"), ready).run())


class Running:
    """One server; run inside the event loop once."""

    def __init__(self, settings: Settings, say: Say, ready: Callable[[Site], None]) -> None:
        self._listening = bind(settings.host, settings.port)
        settings = replace(settings, port=self._listening.getsockname()[1])
        self._say, self._ready = say, ready
        try:
            self.site = Site(settings, say)
        except ValueError:
            self._listening.close()
            raise
        self.site.url = _reachable(place_of(self._listening), settings.host)
        config = server_settings(application(self.site), _DRAIN)
        config.http = Impatient
        self._server = Server(config)

    async def run(self) -> None:
        """Listen and serve, until `ask`."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; a thread
                loop.add_signal_handler(number, self._server.ask, self._say)
        self._listening.listen(BACKLOG)
        self._ready(self.site)
        try:
            await self._server.serve([self._listening])
        finally:
            self._listening.close()
            await loop.run_in_executor(None, self.site.close)

    def end(self) -> None:
        """End soon; from the event loop's thread or another one."""
        self._server.should_exit = True


def _reachable(url: str, host: str) -> str:
    """The URL for links; of a socket on all addresses, the one by which others come."""
    if host not in {"0.0.0.0", "::"}:  # noqa: S104 - told, not bound
        return url
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it chooses the way out (RFC 5737)
            mine = probe.getsockname()[0]
        except OSError:
            mine = socket.gethostname()
    return f"http://{mine}:{url.rpartition(':')[2]}"
