"""What our servers share: a socket, uvicorn without its logs and signals, an event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from ipaddress import ip_address
from typing import Any, cast

import uvicorn

from palate.config import ConfigError

Say = Callable[[str], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048  # connections that wait to be accepted
_KEEP_ALIVE = 120  # seconds; longer than clients keep theirs, so that it is they who close


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes an event loop: uvloop's where it is installed."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def patient(say: Say, program: str) -> Say:
    """`say` with the program's name, which costs no traffic when the log cannot be written."""

    def spoken(text: str) -> None:
        with suppress(OSError):
            say(f"{program}: {text}")

    return spoken


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket on this host and port; `ConfigError` if that cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"cannot listen on {host}:{port}: {why}") from error
    return listening


def place_of(listening: socket.socket) -> str:
    """The URL of what listens there."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which raises its signals again when it has ended: here work is left."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Nothing: `ask` is for them."""
        return nullcontext()

    def ask(self, say: Say) -> None:
        """End politely at the first signal, and at once at the second."""
        if self.should_exit:
            self.force_exit = True
            for number in SIGNALS:  # the third is anybody's: it kills
                asyncio.get_running_loop().remove_signal_handler(number)
        else:
            self.should_exit = True
            say("ending; streams may finish (again to stop at once)")


def server_settings(application: Any, drain: int) -> uvicorn.Config:
    """uvicorn's settings for an ASGI application; streams get `drain` seconds to end."""
    return uvicorn.Config(
        cast(Any, application),
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
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=drain,
    )
