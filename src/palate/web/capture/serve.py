"""`palate capture` from its start to its end: socket, server, recorder, signals, last words."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import suppress
from typing import Any

from palate.web.capture.link import COMMAND, Link
from palate.web.capture.own import HEALTH
from palate.web.capture.proxy import Proxy
from palate.web.capture.settings import CaptureConfig
from palate.web.capture.upstream import Upstream
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


def serve(config: CaptureConfig, say: Say, command: tuple[str, ...] = COMMAND) -> dict[str, Any]:
    """Run the proxy until SIGINT or SIGTERM; the last counts.

    Raises `ConfigError` if it cannot listen, or if the recorder cannot work.
    """
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        return runner.run(_serve(config, patient(say, "palate capture"), command))


async def _serve(config: CaptureConfig, say: Say, command: tuple[str, ...]) -> dict[str, Any]:
    listening = bind(config.host, config.port)
    link = Link(config, say, command)
    upstream = Upstream(config)
    try:
        await link.start()
        server = Server(server_settings(Proxy(config, upstream, link, say), config.drain))
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with suppress(NotImplementedError):  # Windows, where Ctrl-C ends it at once
                loop.add_signal_handler(number, server.ask, say)
        listening.listen(BACKLOG)
        _greet(config, listening, say)
        # What is there now stays: the collector need not look at it again while tokens wait.
        gc.collect()
        gc.freeze()
        await server.serve([listening])
    finally:
        listening.close()
        await link.close()
        await upstream.close()
    return link.counts()


def _greet(config: CaptureConfig, listening: socket.socket, say: Say) -> None:
    place = place_of(listening)
    path = "/" + config.upstream.split("/", 3)[3] if config.upstream.count("/") > 2 else ""
    say(f"{place} passes to {config.upstream}; health at {place}{HEALTH}")
    say(f"set the product's base URL to {place}{path}")
    if not is_loopback(config.host):
        say(
            f"warning: {config.host} can be reached from outside this machine, and "
            "the proxy asks nobody who they are and encrypts nothing: put both in front of it"
        )
