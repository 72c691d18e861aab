"""Who may ask the site, and what every answer says to the browser.

In front of every route, event streams and files included: the Host (against DNS rebinding), the
Origin and Sec-Fetch-Site (against other sites' pages), a session or a token, a form token with each
change (CSRF), and a limit for bodies and for the time they take to arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from palate.ui.people import People, Person
from palate.ui.settings import Settings
from palate.web.asgi import Message, Receive, Send, header, read_body, reply

App = Callable[[Message, Receive, Send], Awaitable[None]]
Refuse = Callable[[Message, Receive, Send, int, str], Awaitable[None]]
STATIC = "/static/"
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_READS = {"GET", "HEAD"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Refused(Exception):
    """A request that is not admitted: its HTTP status and why, in one line."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Admission:
    """Asks of every request who it is from; `refuse` answers those that are not admitted."""

    def __init__(self, inner: App, people: People, settings: Settings, refuse: Refuse) -> None:
        self._inner, self._people, self._settings, self._refuse = inner, people, settings, refuse
        self._hosts = _LOCAL | {host.lower() for host in settings.hosts}
        self.cookie = f"palate_{settings.port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Admit, or answer."""
        if scope["type"] != "http":
            raise NotImplementedError("the site speaks HTTP only")
        send = _with_security(send)
        try:
            self._check_place(scope)
            if await self._take_link(scope, send):
                return
            if not scope["path"].startswith(STATIC):
                person = self._person(scope)
                scope.setdefault("state", {})["me"] = person
                self._check_change(scope, person)
            if scope["method"] not in _READS:
                receive = await self._whole_body(scope, receive)
        except Refused as refused:
            await self._refuse(scope, receive, send, refused.status, refused.why)
            return
        await self._inner(scope, receive, send)

    def _check_place(self, scope: Message) -> None:
        """The address by which the browser came, and the page that sent it."""
        headers = scope["headers"]
        host = header(headers, "host")
        name = (_split(f"//{host}") or "").lower()
        if name not in self._hosts and (self._settings.loopback or not _is_address(name)):
            raise Refused(
                403, f"this site is not known as {name[:60]}: see palate ui --help, --allow-host"
            )
        origin = header(headers, "origin")
        # A proxy with TLS before us is asked by https, and passes our name on.
        own = {f"http://{host}".lower(), f"https://{host}".lower()}
        if origin and origin.lower() not in own:
            raise Refused(403, "a page of another site may not ask this one")
        site, mode = header(headers, "sec-fetch-site"), header(headers, "sec-fetch-mode")
        visits = scope["method"] in _READS and mode == "navigate"
        if site in {"cross-site", "same-site"} and not visits:
            raise Refused(403, "a page of another site may not ask this one")

    async def _take_link(self, scope: Message, send: Send) -> bool:
        """A link with a token gives a session, and is forgotten by the address bar."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query)
        if "token" not in given or scope["method"] != "GET":
            return False
        person = self._people.by_token(given["token"], given.get("name"))
        if person is None:
            raise Refused(401, "this link is not valid, or no longer: ask for a new one")
        rest = urlencode([pair for pair in query if pair[0] not in {"token", "name"}])
        place = scope["raw_path"].decode("latin-1") + (f"?{rest}" if rest else "")
        session = self._people.session(person)
        cookie = f"{self.cookie}={session}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000"
        # A path of two slashes would name another host; browsers take a backslash for one.
        found = [
            (b"location", ("/" + place.lstrip("/\\")).encode()),
            (b"set-cookie", cookie.encode()),
        ]
        await send({"type": "http.response.start", "status": 303, "headers": found})
        await send({"type": "http.response.body", "body": b""})
        return True

    def _person(self, scope: Message) -> Person:
        token = _bearer(scope)
        if token is not None:
            name = header(scope["headers"], "x-palate-name") or None
            person = self._people.by_token(token, name)
        else:
            # The last one: a cookie for a part of the site, which comes first, is not ours.
            known = map(self._people.by_session, _cookies(scope, self.cookie))
            person = next((one for one in known if one is not None), None)
        if person is None:
            raise Refused(401, "open the site by the link that palate ui has printed")
        return person

    def _check_change(self, scope: Message, person: Person) -> None:
        """A change comes from a page of ours; a program with a token has no cookie to abuse."""
        if scope["method"] in _READS or _bearer(scope) is not None:
            return
        if not self._people.is_form_token(person, header(scope["headers"], "x-csrf-token")):
            raise Refused(403, "this page is from before the server's start: load it again")

    async def _whole_body(self, scope: Message, receive: Receive) -> Receive:
        limit = self._settings.body
        length = header(scope["headers"], "content-length")
        if length.isdecimal() and int(length) > limit:
            raise Refused(413, f"a request has at most {limit} bytes")
        try:
            async with asyncio.timeout(self._settings.patience):
                body = await read_body(receive, limit)
        except TimeoutError:
            raise Refused(408, "the request took too long to arrive") from None
        if body is None or len(body) > limit:
            raise Refused(413, f"a request has at most {limit} bytes")
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again


def _with_security(send: Send) -> Send:
    """Every answer with the headers of `SECURITY`, where it has no such header of its own."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            there = {name.lower() for name, _ in own}
            message["headers"] = own + [pair for pair in SECURITY if pair[0] not in there]
        await send(message)

    return sending


def _bearer(scope: Message) -> str | None:
    """The token of a program; other credentials are none."""
    given = header(scope["headers"], "authorization")
    return given.removeprefix("Bearer ") if given.startswith("Bearer ") else None


def _cookies(scope: Message, name: str) -> list[str]:
    """The values of the cookies of that name, the last one first.

    Other programs of this machine have theirs in the same header, in whatever shape.
    """
    pairs = [part.strip().partition("=") for part in header(scope["headers"], "cookie").split(";")]
    return [value for known, _, value in reversed(pairs) if known == name]


def _split(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    """An address cannot be rebound: only names are looked up."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def refuse_with_json(send: Send, status: int, why: str) -> None:
    """A refusal for programs."""
    body: dict[str, Any] = {"error": why}
    await reply(send, status, body)
