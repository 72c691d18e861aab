"""The data pages: the store and its funnels, lint, search, one conversation and its trace."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from palate.ui.data import overview, search, snapshots
from palate.ui.data.asked import Asked
from palate.ui.data.conversation import conversation
from palate.ui.data.linting import Linting
from palate.ui.data.snapshots import Held
from palate.ui.data.tracing import Tracing
from palate.ui.pages import NotThere, Page, action, page, raw
from palate.ui.site import Site

_ID = re.compile(r"^[0-9a-f]{32}$")
_FUNNELS = 40  # that the first page shows


def routes() -> list[BaseRoute]:
    """Everything under /data; all of it is the owner's."""
    return [
        *page("/data", show_data),
        *page("/data/rejects", show_rejects),
        *page("/data/dropped", show_dropped),
        *page("/data/lint", show_lint),
        *action("/data/lint", start_lint),
        *action("/data/lint/stop", stop_lint),
        *page("/data/search", show_search),
        *raw("/data/export.csv", export_csv),
        *raw("/data/export.jsonl", export_jsonl),
        *page("/data/i/{id}", show_interaction),
        *page("/data/i/{id}/trace", show_trace),
        *action("/data/i/{id}/trace", start_trace),
        *action("/data/i/{id}/trace/stop", stop_trace),
    ]


def glance(site: Site) -> str:
    """How many snapshots were made of the store."""
    many = len(snapshots.held(site.store, site.runs))
    return (
        f"{many} snapshot{'' if many == 1 else 's'} and runs made of it" if many else "no run yet"
    )


def show_data(site: Site, _request: Request) -> Page:
    """What the store holds, its sources, interactions over time, the funnel of each snapshot."""
    known = snapshots.held(site.store, site.runs)
    facts = site.area("data", lambda s: overview.Overview(s.store)).facts()
    facts["snapshots"] = [snapshots.funnel(one) for one in known[:_FUNNELS]]
    facts["more_snapshots"] = max(0, len(known) - _FUNNELS)
    return Page("data.html.j2", facts)


def show_rejects(site: Site, request: Request) -> Page:
    """Lines of `source` (a number) that were refused under `reason`, by `page` from 0."""
    given = request.query_params
    source, reason = given.get("source", ""), given.get("reason", "")
    if not source.isdecimal():
        raise NotThere("a source is named by its number: come from the list of sources")
    facts = overview.rejected(site.store, int(source[:9]), reason, _page_of(request))
    return Page("data_rejects.html.j2", facts)


def show_dropped(site: Site, request: Request) -> Page:
    """Rows that the snapshot `of` (its key) dropped under `reason`, by `page` from 0."""
    given = request.query_params
    one = _held(site, given.get("of", ""))
    return Page(
        "data_dropped.html.j2", snapshots.dropped(one, given.get("reason", ""), _page_of(request))
    )


def show_lint(site: Site, request: Request) -> Page:
    """What lint found in the store, or in the snapshot `of`, and whether it runs."""
    facts = _known(lambda: _linting(site).told(request.query_params.get("of", "")))
    choices = [{"key": "", "name": f"the store {site.store.name}"}]
    choices += [{"key": one.key, "name": one.name} for one in snapshots.held(site.store, site.runs)]
    return Page("data_lint.html.j2", {**facts, "choices": choices})


def start_lint(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Start lint for `{"of": key}`, empty for the store: answered with the job."""
    return _known(lambda: _linting(site).start(_word(given, "of")).told())


def stop_lint(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """End the lint of `{"of": key}`."""
    _linting(site).jobs.stop(_word(given, "of"))
    return {"stopped": True}


def show_search(site: Site, request: Request) -> Page:
    """Interactions by words, source, thumb, event, model, tag, begin, end and state; newest first.

    `next` of the twin is the query of the page after; a page looks for a fraction of a second.
    """
    asked = Asked.of(request.query_params)
    return Page("data_search.html.j2", search.found(site.store, asked))


def export_csv(site: Site, request: Request) -> Response:
    """The newest 10,000 of a search as CSV; takes what /data/search takes."""
    asked = Asked.of(request.query_params)
    return _file(search.as_csv(site.store, asked), "text/csv; charset=utf-8", "palate-search.csv")


def export_jsonl(site: Site, request: Request) -> Response:
    """The newest 10,000 of a search as lines of JSON; takes what /data/search takes."""
    asked = Asked.of(request.query_params)
    kind = "application/x-ndjson"
    return _file(search.as_jsonl(site.store, asked), kind, "palate-search.jsonl")


def show_interaction(site: Site, request: Request) -> Page:
    """One interaction in full, and what training makes of it."""
    key = _id(request)
    facts = conversation(site.store, site.settings.db, key)
    if facts is None:
        raise NotThere(f"there is no interaction {key}: search for it")
    readers = _tracing(site).readers()
    return Page(
        "data_interaction.html.j2",
        {**facts, "readers": readers, "models": list(site.settings.models)},
    )


def show_trace(site: Site, request: Request) -> Page:
    """The interaction as tokens, as the run `run` (its key) or the `model` reads it."""
    key = _id(request)
    conversation_there(site, key)
    given = request.query_params
    facts = _tracing(site).told(key, given.get("run", ""), given.get("model", ""))
    return Page("data_trace.html.j2", facts)


def start_trace(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Start a trace for `{"run": key}` or `{"model": name}`: answered with the job."""
    key = _id(request)
    conversation_there(site, key)
    run, model = _word(given, "run"), _word(given, "model")
    return _known(lambda: _tracing(site).start(key, run, model).told())


def stop_trace(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """End the trace for `{"run": key}` or `{"model": name}`."""
    _tracing(site).stop(_id(request), _word(given, "run"), _word(given, "model"))
    return {"stopped": True}


def conversation_there(site: Site, key: str) -> None:
    """Raises `NotThere` where the interaction is not, or was erased: a trace quotes it."""
    from palate.store.reading import stored_of

    if not stored_of(site.store, [key]):
        raise NotThere(f"there is no interaction {key}: search for it")


def _linting(site: Site) -> Linting:
    return site.area("lint", lambda s: Linting(s.store, s.settings.db, s.runs))


def _tracing(site: Site) -> Tracing:
    return site.area("trace", lambda s: Tracing(s.store, s.settings.db, s.runs))


def _known(work: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = work()
    except LookupError as error:
        raise NotThere(f"there is no snapshot or run {error}: choose one of the list") from None
    return found


def _held(site: Site, key: str) -> Held:
    found = snapshots.find(site.store, site.runs, key)
    if found is None:
        raise NotThere("there is no such snapshot any more: come from the list of snapshots")
    return found


def _id(request: Request) -> str:
    key = str(request.path_params["id"])
    if not _ID.match(key):
        raise NotThere("an interaction is named by 32 hex digits: search for it")
    return key


def _page_of(request: Request) -> int:
    given = request.query_params.get("page", "0")
    return int(given[:6]) if given.isdecimal() else 0


def _word(given: dict[str, Any], name: str) -> str:
    value = given.get(name) or ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is a text")
    return value.strip()


def _file(pieces: Any, kind: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(pieces, media_type=kind, headers=headers)
