"""The first page: where the loop stands, and links for annotators; and the API's description."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from palate.store.reading import counts
from palate.ui.pages import Page, action, me, page
from palate.ui.site import Site


def routes() -> list[BaseRoute]:
    """The first page, invitations, and the API."""
    return [
        *page("/", show_home, owner=False),
        *page("/api", show_api),
        *action("/invite", invite),
    ]


def show_home(site: Site, request: Request) -> Page:
    """What the store holds, and the parts of the site: what each is for, and where it stands."""
    person = me(request)
    facts: dict[str, Any] = {"person": person.name, "store": None}
    if person.owner:
        facts["store"] = {"name": site.store.name, "counts": counts(site.store)}
    facts["areas"] = [
        {
            "place": area.place,
            "title": area.title,
            "purpose": area.purpose,
            "stands": area.glance(site) if area.glance is not None and person.owner else None,
        }
        for area in request.app.state.nav
        if person.owner or not area.owner
    ]
    return Page("home.html.j2", facts)


def show_api(_site: Site, request: Request) -> Page:
    """Every path of the site: its method, who may ask, and what it does."""
    return Page("api.html.j2", {"routes": [asdict(one) for one in request.app.state.told]})


def invite(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, str]:
    """Give the link of an annotator: `{"name": …}` is answered with `{"name": …, "link": …}`.

    The same name has the same link, for as long as the site's token is the same.
    """
    name = str(given.get("name", "")).strip()
    return {"name": name, "link": site.people.link(site.url, name, "/label")}
