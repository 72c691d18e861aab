"""A page and its twin: HTML for people, and exactly the same facts as JSON under `PATH.json`.

An area of the site declares its routes with `page`, `action`, `stream` and `raw`; what they have in
common is here: who may ask, errors as one line, and the shape of every answer. The docstring of
each function that answers is its part of the API's documentation.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import jinja2
import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from palate.ui.people import Person
from palate.ui.site import Site

HERE = Path(__file__).parent
Kind = Literal["page", "action", "stream", "file"]


class NotThere(ValueError):
    """Something was asked for that does not exist."""


class NotYours(ValueError):
    """An annotator asked for what is the owner's."""


class FieldErrors(ValueError):
    """What is wrong with a form, by the field's name."""

    def __init__(self, why: str, fields: Mapping[str, str]) -> None:
        super().__init__(why)
        self.fields = dict(fields)


@dataclass(frozen=True, slots=True)
class Page:
    """A template of ours, and the JSON-ready facts that it shows."""

    template: str
    data: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What a route does, for the API's documentation."""

    kind: Kind
    method: str
    path: str
    owner: bool
    words: str


T = TypeVar("T")
Show = Callable[[Site, Request], Page]
Do = Callable[[Site, Request, dict[str, Any]], Mapping[str, Any]]
Events = Callable[[Site, Request], AsyncIterator[Mapping[str, Any]]]
Respond = Callable[[Site, Request], Response]


class Place(Route):
    """A route that says what it does; `told` is None of a page's twin."""

    def __init__(self, path: str, endpoint: Any, method: str, told: Told | None) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.told = told


def page(path: str, show: Show, *, owner: bool = True) -> list[BaseRoute]:
    """`GET path` as HTML and `GET path.json` as JSON."""

    async def html(request: Request) -> Response:
        def draw() -> Response:
            return rendered(request, _admitted(request, owner, show))

        return await _answered(request, draw, as_json=False)

    async def twin(request: Request) -> Response:
        def draw() -> Response:
            found = _admitted(request, owner, show)
            return as_json(found.data, found.status)

        return await _answered(request, draw, as_json=True)

    told = Told("page", "GET", path, owner, _words(show))
    json_path = "/index.json" if path == "/" else f"{path}.json"
    return [Place(json_path, twin, "GET", None), Place(path, html, "GET", told)]


def action(path: str, do: Do, *, owner: bool = True) -> list[BaseRoute]:
    """`POST path` with a JSON object, which is answered with one."""

    async def post(request: Request) -> Response:
        body = await request.body()

        def work() -> Response:
            return as_json(_admitted(request, owner, functools.partial(_done, do, body)))

        return await _answered(request, work, as_json=True)

    return [Place(path, post, "POST", Told("action", "POST", path, owner, _words(do)))]


def stream(path: str, events: Events, *, owner: bool = True) -> list[BaseRoute]:
    """`GET path` as server-sent events: mappings with `data`, and perhaps `event` and `id`.

    What cannot be found is said before the first event, with a status of its own.
    """

    async def listen(request: Request) -> Response:
        try:
            _check(request, owner)
            source = events(request.app.state.site, request)
            first = await anext(source, None)
        except ValueError as error:
            return _failed(request, error, as_json=True)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        told = _sent(first, source)
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)

    return [Place(path, listen, "GET", Told("stream", "GET", path, owner, _words(events)))]


def raw(path: str, respond: Respond, *, owner: bool = True) -> list[BaseRoute]:
    """`GET path` as a file."""

    async def give(request: Request) -> Response:
        def work() -> Response:
            return _admitted(request, owner, respond)

        return await _answered(request, work, as_json=False)

    return [Place(path, give, "GET", Told("file", "GET", path, owner, _words(respond)))]


def me(request: Request) -> Person:
    """Who asks."""
    found = request.state.me
    assert isinstance(found, Person), "admission has said who it is"
    return found


def rendered(request: Request, shown: Page) -> Response:
    """The page as HTML."""
    site: Site = request.app.state.site
    person: Person | None = getattr(request.state, "me", None)
    around = {
        "me": person.name if person else None,
        "owner": person.owner if person else False,
        "form_token": site.people.form_token(person) if person else "",
        "here": request.url.path,
        "nav": request.app.state.nav,
    }
    body = _templates().get_template(shown.template).render(**around, **shown.data)
    return Response(body, shown.status, media_type="text/html")


def as_json(value: Any, status: int = 200) -> Response:
    """JSON; numbers that are none (NaN, ∞) are null."""
    return Response(orjson.dumps(value), status, media_type="application/json")


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    return environment


@functools.cache
def asset(name: str) -> str:
    """The URL of a file of ours, another one after each change of it."""
    path = HERE / "static" / name
    return f"/static/{name}?{path.stat().st_mtime_ns:x}"


def _done(do: Do, body: bytes, site: Site, request: Request) -> Mapping[str, Any]:
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the request's body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError("the request's body is a JSON object")
    return do(site, request, given)


def _admitted(request: Request, owner: bool, work: Callable[[Site, Request], T]) -> T:
    _check(request, owner)
    return work(request.app.state.site, request)


def _check(request: Request, owner: bool) -> None:
    if owner and not me(request).owner:
        raise NotYours("this is for the owner of the site; your link is for labelling")


async def _answered(request: Request, work: Callable[[], Response], *, as_json: bool) -> Response:
    """What a route's function gives, in a thread of its own, or its error as one line."""
    try:
        return await run_in_threadpool(work)
    except (ValueError, OSError) as error:
        return _failed(request, error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - one page's failure is not the site's
        # Only where it happened: its message may hold what users said.
        where = traceback.extract_tb(error.__traceback__)[-1]
        site: Site = request.app.state.site
        site.say(f"{type(error).__name__} in {where.filename}, line {where.lineno}")
        sorry = "this page has failed; where is said in the terminal of palate ui"
        return refusal(request, 500, sorry, as_json=as_json)


def _failed(request: Request, error: Exception, *, as_json: bool) -> Response:
    why = " ".join(str(error).split())
    if isinstance(error, FieldErrors):
        return refusal(request, 422, why, as_json=as_json, fields=error.fields)
    status = 404 if isinstance(error, NotThere) else 403 if isinstance(error, NotYours) else 400
    return refusal(request, status, why, as_json=as_json)


def refusal(
    request: Request,
    status: int,
    why: str,
    *,
    as_json: bool,
    fields: Mapping[str, str] | None = None,
) -> Response:
    """An error, as a page or as `{"error": …, "fields"?: …}`."""
    if as_json:
        body: dict[str, Any] = {"error": why}
        if fields is not None:
            body["fields"] = dict(fields)
        return Response(orjson.dumps(body), status, media_type="application/json")
    return rendered(request, Page("refusal.html.j2", {"status": status, "why": why}, status))


async def _sent(
    first: Mapping[str, Any] | None, rest: AsyncIterator[Mapping[str, Any]]
) -> AsyncIterator[bytes]:
    if first is not None:
        yield _event(first)
    async for event in rest:
        yield _event(event)


def _event(event: Mapping[str, Any]) -> bytes:
    """One event; without `data` it is a comment, which keeps the connection awake."""
    if "data" not in event:
        return b": \n\n"
    lines = [f"{name}: {event[name]}".encode() for name in ("event", "id") if name in event]
    return b"\n".join([*lines, b"data: " + orjson.dumps(event["data"]), b"", b""])


def _words(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return " ".join((inner.__doc__ or "").split())
