"""The provider's name is resolved once, to an address that may be asked."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from palate.addresses import NotAllowed
from palate.web.capture.settings import CaptureConfig
from palate.web.capture.upstream import LookedAt, Upstream, UpstreamError


async def asked_of(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer, raising=False)
    monkeypatch.setattr("palate.web.capture.upstream.environment_proxy", lambda *_: None)
    upstream = Upstream(CaptureConfig(upstream="http://provider.example.org:9/v1"))
    try:
        await upstream.ask("GET", b"/v1/models", [], b"")
    finally:
        await upstream.close()


def test_a_public_name_for_a_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match=r"stands for 10\.0\.0\.1, which is a private address"):
        asyncio.run(asked_of("10.0.0.1", monkeypatch))


def test_an_address_that_clouds_give_keys_away_by_is_never_asked() -> None:
    async def made() -> None:
        Upstream(CaptureConfig(upstream="http://169.254.169.254/latest"))

    with pytest.raises(NotAllowed, match="link-local"):
        asyncio.run(made())


def test_aiohttp_is_told_the_addresses_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved() -> list[Any]:
        async def both(*_: Any) -> list[Any]:
            return [{"host": "10.0.0.1"}, {"host": "93.184.216.34"}]

        monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", both)
        return list(await LookedAt().resolve("example.org", 443))

    assert asyncio.run(resolved()) == [{"host": "93.184.216.34"}]
