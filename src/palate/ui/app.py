"""The site as an ASGI application: its areas, its own files, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from palate.ui import home
from palate.ui.admission import STATIC, Admission, refuse_with_json
from palate.ui.agreement import routes as agreement
from palate.ui.arena import routes as arena
from palate.ui.data import routes as data
from palate.ui.label import routes as label
from palate.ui.pages import HERE, Place, Told, refusal
from palate.ui.runs import routes as runs
from palate.ui.site import Site
from palate.web.asgi import Receive, Send


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the site: where it begins, what it is called, and whether annotators see it.

    `purpose` says in one sentence what it is for; `glance` where it stands, quickly.
    """

    place: str
    title: str
    purpose: str
    routes: list[BaseRoute]
    owner: bool = True
    glance: Callable[[Site], str] | None = None


def areas() -> list[Area]:
    """The areas, in the order of the navigation."""
    return [
        Area(
            "/data",
            "Data",
            "What the store holds, what became of it, and every conversation.",
            data.routes(),
            glance=data.glance,
        ),
        Area(
            "/label",
            "Label",
            "Answers side by side, the most telling first: a vote is a key.",
            label.routes(),
            owner=False,
            glance=label.glance,
        ),
        Area(
            "/agreement",
            "Agreement",
            "How far people say the same, and what they do not agree about.",
            agreement.routes(),
            glance=agreement.glance,
        ),
        Area(
            "/runs",
            "Runs",
            "Training, live: charts, findings, samples, start and stop.",
            runs.routes(),
            glance=runs.glance,
        ),
        Area(
            "/arena",
            "Arena",
            "Two models answer side by side, and you say which did better.",
            arena.routes(),
            owner=False,
            glance=arena.glance,
        ),
    ]


class _Files(StaticFiles):
    """Our own files, which a browser may keep: their URL changes with them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def application(site: Site) -> Admission:
    """The whole site."""
    known = areas()
    routes = [*home.routes(), *(route for area in known for route in area.routes)]
    static = Mount(STATIC.rstrip("/"), _Files(directory=HERE / "static"), name="static")
    inner = Starlette(routes=[*routes, static], exception_handlers={HTTPException: _odd})
    inner.state.site = site
    inner.state.nav = known
    inner.state.told = told(routes)

    async def refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
        if scope["path"].endswith(".json") or scope["method"] not in {"GET", "HEAD"}:
            await refuse_with_json(send, status, why)
            return
        scope["app"] = inner
        page = refusal(Request(scope), status, why, as_json=False)
        await page(scope, receive, send)

    return Admission(inner, site.people, site.settings, refuse)


def told(routes: list[BaseRoute]) -> list[Told]:
    """What each route does: the API, in the order of its paths."""
    found = [route.told for route in routes if isinstance(route, Place) and route.told is not None]
    return sorted(found, key=lambda one: (one.path, one.method))


async def _odd(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: no such path, or another method."""
    assert isinstance(error, HTTPException)
    words = {404: "there is no such page", 405: "this place is asked in another way"}
    why = words.get(error.status_code, str(error.detail))
    wants_json = request.url.path.endswith(".json") or request.method not in {"GET", "HEAD"}
    return refusal(request, error.status_code, why, as_json=wants_json)
