"""The way to the provider: requests go out as they came in, answers come back as they arrive."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from palate.addresses import NotAllowed, check_url, usable
from palate.web.asgi import Headers
from palate.web.capture.settings import CaptureConfig
from palate.web.listening import is_loopback

Body = bytes | AsyncIterator[bytes]
_IDLE = 30.0  # seconds after which an unused connection is closed
_LONGEST_LINE = 2**16  # bytes of one header

# They concern one connection, not the message on it (RFC 9110, section 7.6.1).
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"trailers transfer-encoding upgrade".split()
)


class UpstreamError(Exception):
    """The provider gave no answer: why, as HTTP status, code and words."""

    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(why)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose head is there; `chunks` gives the body's bytes as they arrive, once."""

    status: int
    headers: list[tuple[bytes, bytes]]
    response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces; `UpstreamError` if the provider breaks off."""
        read = self.response.content.readany
        try:
            while chunk := await read():
                yield chunk
        except TimeoutError as error:
            raise UpstreamError(504, "upstream_timeout", "it stopped sending") from error
        except aiohttp.ClientError as error:
            raise UpstreamError(502, "upstream_broken", "it broke off") from error

    def close(self) -> None:
        """Give the connection back, or end it if the body is not read to its end."""
        self.response.close()


class LookedAt(aiohttp.ThreadedResolver):
    """Resolves names to the addresses that `palate.addresses` lets be asked."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses; an `OSError`, as aiohttp expects it, where none may be asked."""
        found = await super().resolve(host, port, family)
        try:
            kept = set(usable(host, [one["host"] for one in found]))
        except NotAllowed as error:
            raise OSError(None, str(error)) from error
        return [one for one in found if one["host"] in kept]


class Upstream:
    """Connections to one provider; made inside a running event loop."""

    def __init__(self, config: CaptureConfig) -> None:
        check_url(config.upstream)
        parts = urlsplit(config.upstream)
        self.origin, self._path = f"{parts.scheme}://{parts.netloc}", parts.path.encode()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE, resolver=LookedAt()),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_timeout, sock_read=config.timeout
            ),
            # What passes is left as it is: nothing unpacked, remembered or added.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self._proxy = environment_proxy(parts.scheme, parts.hostname or "")

    async def ask(self, method: str, target: bytes, headers: Headers, body: Body) -> Answer:
        """Send a request; returns when the answer's head is there. Raises `UpstreamError`."""
        if not target.startswith(b"/"):  # it would go on the host's name, and with the key
            raise UpstreamError(400, "bad_target", "a request's target begins with a slash")
        passed = end_to_end(headers, {b"host", b"expect"})
        named = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in passed]
        url = URL(self.origin + joined(self._path, target).decode("latin-1"), encoded=True)
        try:
            response = await self._session.request(
                method,
                url,
                headers=named,
                data=body or None,
                allow_redirects=False,
                proxy=self._proxy,
            )
        except TimeoutError as error:
            raise UpstreamError(504, "upstream_timeout", "it did not answer in time") from error
        except aiohttp.ClientError as error:
            raise UpstreamError(502, "upstream_unreachable", str(error)) from error
        return Answer(response.status, end_to_end(response.raw_headers), response)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def joined(base: bytes, path: bytes) -> bytes:
    """The path to ask for: the request's own, below the upstream's.

    What the end of the one and the beginning of the other have in common is there once, so that
    `/v1/models` is found whether the settings say `…/v1` or not.
    """
    slashes = [at for at, byte in enumerate(base) if byte == ord("/")]
    shared = (at for at in slashes if (path + b"/").startswith(base[at:] + b"/"))
    return base[: next(shared, len(base))] + path


def environment_proxy(scheme: str, host: str) -> str | None:
    """What HTTPS_PROXY and its like name for this host, which the product's own client read.

    aiohttp would look at each request, in a thread, and would take keys from ~/.netrc as well.
    """
    return None if is_loopback(host) or proxy_bypass(host) else getproxies().get(scheme)


def end_to_end(headers: Headers, without: Collection[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """The headers that concern the message; `without` names more that stay behind."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    left = HOP_BY_HOP | named | {*without}
    return [(name, value) for name, value in headers if name.lower() not in left]
