"""`palate capture` from its start to its end: socket, server, recorder, signals, last words."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, cast

import uvicorn

from palate.config import ConfigError
from palate.web.capture.link import COMMAND, Link
from palate.web.capture.own import HEALTH
from palate.web.capture.proxy import Proxy
from palate.web.capture.settings import CaptureConfig
from palate.web.capture.upstream import Upstream, is_loopback

Say = Callable[[str], None]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEEP_ALIVE = 120  # seconds; longer than clients keep theirs, so that it is they who close
_BACKLOG = 2048  # connections that wait to be accepted


def serve(config: CaptureConfig, say: Say, command: tuple[str, ...] = COMMAND) -> dict[str, Any]:
    """Run the proxy until SIGINT or SIGTERM; the last counts.

    Raises `ConfigError` if it cannot listen, or if the recorder cannot work.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_serve(config, _patient(say), command))


def _patient(say: Say) -> Say:
    """`say` with the program's name, which costs no traffic when the log cannot be written."""

    def spoken(text: str) -> None:
        with suppress(OSError):
            say(f"palate capture: {text}")

    return spoken


async def _serve(config: CaptureConfig, say: Say, command: tuple[str, ...]) -> dict[str, Any]:
    listening = bind(config)
    link = Link(config, say, command)
    upstream = Upstream(config)
    try:
        await link.start()
        server = _Server(_settings(Proxy(config, upstream, link, say), config))
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            with suppress(NotImplementedError):  # Windows, where Ctrl-C ends it at once
                loop.add_signal_handler(number, server.ask, say)
        listening.listen(_BACKLOG)
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


def bind(config: CaptureConfig) -> socket.socket:
    """A socket on the host and port of the settings; `ConfigError` if that cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {why}") from error
    return listening


class _Server(uvicorn.Server):
    """uvicorn's server, which raises its signals again when it has ended: here work is left."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    def ask(self, say: Say) -> None:
        """End politely at the first signal, and at once at the second."""
        if self.should_exit:
            self.force_exit = True
            for number in _SIGNALS:  # the third is anybody's: it kills
                asyncio.get_running_loop().remove_signal_handler(number)
        else:
            self.should_exit = True
            say("ending; streams may finish (again to stop at once)")


def _settings(proxy: Proxy, config: CaptureConfig) -> uvicorn.Config:
    return uvicorn.Config(
        cast(Any, proxy),
        interface="asgi3",
        lifespan="off",
        ws="none",
        # The log would hold paths with their queries, and errors what passed.
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=config.drain,
    )


def _greet(config: CaptureConfig, listening: socket.socket, say: Say) -> None:
    host, port = listening.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    path = "/" + config.upstream.split("/", 3)[3] if config.upstream.count("/") > 2 else ""
    say(f"{place} passes to {config.upstream}; health at {place}{HEALTH}")
    say(f"set the product's base URL to {place}{path}")
    if not is_loopback(config.host):
        say(
            f"warning: {config.host} can be reached from outside this machine, and "
            "the proxy asks nobody who they are and encrypts nothing: put both in front of it"
        )
