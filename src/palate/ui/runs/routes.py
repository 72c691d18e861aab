"""The pages of runs: the list, one run live, its samples, several in the same charts."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from palate.durable import held
from palate.ui.pages import NotThere, Page, as_json, page, raw, stream
from palate.ui.runs import controls
from palate.ui.runs.folders import SEPARATOR, parts_of, place_of
from palate.ui.runs.library import library
from palate.ui.runs.live import Event, Follower, Followers, together
from palate.ui.runs.margins import Spreads
from palate.ui.runs.metrics import Mark
from palate.ui.runs.recipe import recipe_in
from palate.ui.runs.samples import fixed_prompts, rollout, rollout_steps
from palate.ui.runs.series import MOST_POINTS, POINTS, drawn
from palate.ui.runs.states import State, ended
from palate.ui.runs.summary import (
    GOING,
    Rows,
    began,
    method_of,
    model_of,
    moment,
    newest_first,
    progress_of,
)
from palate.ui.runs.telling import compared, page_of, run_files
from palate.ui.site import Site

MOST_COMPARED = 12
FEW = 4
"""Prompts whose answers stand on a run's own page."""
_LISTED = 500
_REPORT_CSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"


def routes() -> list[BaseRoute]:
    """All routes under /runs; those of one run come last, as they take any name."""
    return [
        *page("/runs", show_list),
        *page("/runs/compare", show_compared),
        *stream("/runs/compare/events", compared_events),
        *controls.routes(),
        *raw("/runs/{name}/series", give_series),
        *stream("/runs/{name}/events", events),
        *page("/runs/{name}/samples", show_samples),
        *raw("/runs/{name}/report", give_report),
        *page("/runs/{name}", show_run),
    ]


def glance(site: Site) -> str:
    """How many runs there are, and what the newest came to."""
    found = newest_first(site.runs)
    if not found:
        return "no run yet"
    name, folder = found[0]
    row = site.area("runs.rows", lambda _: Rows()).of(name, folder, _state(site, name, folder))
    many = f"{len(found)} run{'' if len(found) == 1 else 's'}"
    return f"{many}; {name}: {row['headline'] or row['state']}"


def show_list(site: Site, _request: Request) -> Page:
    """The runs that are there, newest first, and how each is doing."""
    rows = site.area("runs.rows", lambda _: Rows())
    found = newest_first(site.runs)
    listed = [
        {**rows.of(name, folder, _state(site, name, folder)), "url": _url(name)}
        for name, folder in found[:_LISTED]
    ]
    facts = {"runs": listed, "left_out": max(0, len(found) - _LISTED), "folder": str(site.runs)}
    return Page("runs.html.j2", facts)


def show_run(site: Site, request: Request) -> Page:
    """One run: charts, findings, margins, samples, the gate; `?at=STEP` chooses a measurement."""
    name, folder = _asked(site, request)
    metrics = library(site).metrics(folder)
    run = run_files(folder, metrics)
    state = _state(site, name, folder)
    going = state.word in GOING
    recipe = recipe_in(folder)
    with metrics.lock:
        progress = progress_of(recipe, metrics.table("train")).facts(going=going)
    spreads = site.area("runs.spreads", lambda _: Spreads())
    at = _number(request, "at")
    samples = fixed_prompts(run, FEW)
    own = SEPARATOR not in name or (site.runs / name).is_dir()
    facts = {
        "name": name,
        "url": _url(name),
        "method": method_of(recipe),
        "model": model_of(recipe),
        "when": moment(began(folder)),
        "state": state.word,
        "going": going,
        "controls": controls.controls(site, name) if own else None,
        "state_words": controls.WORDS[state.word],
        "progress": progress,
        "parts": [
            {"name": part, "url": _url(f"{name}{SEPARATOR}{part}")} for part in parts_of(folder)
        ],
        "spread": spreads.of(folder, None if at is None else int(at)),
        "samples": samples,
        "rollouts": rollout_steps(folder),
        "report": _report(folder) is not None,
        "folder": str(folder),
        **page_of(run, metrics),
    }
    return Page("run.html.j2", facts)


def show_samples(site: Site, request: Request) -> Page:
    """A run's answers to fixed prompts, before and after; `?step=N`: those of a rollout."""
    name, folder = _asked(site, request)
    step = _number(request, "step")
    steps = rollout_steps(folder)
    facts: dict[str, Any] = {"name": name, "url": _url(name), "steps": steps, "step": None}
    if step is not None:
        facts |= {"step": int(step), "groups": rollout(folder, int(step)), "samples": None}
    else:
        run = run_files(folder, library(site).metrics(folder))
        facts |= {"groups": [], "samples": fixed_prompts(run)}
    return Page("run_samples.html.j2", facts)


def show_compared(site: Site, request: Request) -> Page:
    """Several runs in the same charts: `?run=A&run=B`."""
    found = _several(site, request)
    shelf = library(site)
    read = []
    for name, folder in found:
        metrics = shelf.metrics(folder)
        metrics.read()
        read.append((name, metrics))
    runs = [
        {
            "name": name,
            "url": _url(name),
            "method": method_of(recipe_in(folder)),
            "state": _state(site, name, folder).word,
        }
        for name, folder in found
    ]
    return Page("runs_compare.html.j2", {"runs": runs, "latest": compared(read)})


def give_series(site: Site, request: Request) -> Response:
    """A run's charts as JSON: `charts`, `lines` ([steps, values] by key), and the `mark` reached.

    `?key=train.loss` (several) chooses lines, `?from=` and `?to=` the range of steps, `?points=`
    how many points a line has at most.
    """
    _, folder = _asked(site, request)
    points = _number(request, "points")
    low, high = _number(request, "from"), _number(request, "to")
    found = drawn(
        library(site).metrics(folder),
        keys=request.query_params.getlist("key")[:64] or None,
        points=POINTS if points is None else max(4, min(int(points), MOST_POINTS)),
        low=-math.inf if low is None else low,
        high=math.inf if high is None else high,
    )
    return as_json(found)


async def events(site: Site, request: Request) -> AsyncIterator[Event]:
    """What a run writes, as it writes it: `points` after `?mark=`, `progress`, `changed`, `end`."""
    name, folder = _asked(site, request)
    given = request.headers.get("last-event-id") or request.query_params.get("mark", "")
    async for event in _follower(site, name, folder).listen(Mark.read(given)):
        yield event


async def compared_events(site: Site, request: Request) -> AsyncIterator[Event]:
    """The events of several runs in one stream: `?run=A&mark=…&run=B&mark=…`."""
    found = _several(site, request)
    marks = request.query_params.getlist("mark")
    sources = [
        _follower(site, name, folder).listen(Mark.read(marks[at] if at < len(marks) else ""))
        for at, (name, folder) in enumerate(found)
    ]
    async for event in together(sources):
        yield event


def give_report(site: Site, request: Request) -> Response:
    """The report that the run wrote: one page without scripts, closed off from the site."""
    _, folder = _asked(site, request)
    place = _report(folder)
    try:
        text = place.read_bytes() if place is not None else None
    except OSError:
        text = None
    if text is None:
        raise NotThere("this run has no report yet: it is written at the end")
    headers = {"content-security-policy": _REPORT_CSP, "referrer-policy": "no-referrer"}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)


def _report(folder: Path) -> Path | None:
    """The run's own report; a link may lead to any file that we can read, and is none."""
    place = folder / "report.html"
    return place if place.is_file() and not place.is_symlink() else None


def _asked(site: Site, request: Request) -> tuple[str, Path]:
    name = request.path_params["name"]
    return name, place_of(site.runs, name)


def _several(site: Site, request: Request) -> list[tuple[str, Path]]:
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if not names:
        raise ValueError("say which runs: /runs/compare?run=NAME&run=NAME, or choose them at /runs")
    if len(names) > MOST_COMPARED:
        raise ValueError(f"at most {MOST_COMPARED} runs can be told apart: choose fewer")
    return [(name, place_of(site.runs, name)) for name in names]


def _follower(site: Site, name: str, folder: Path) -> Follower:
    followers = site.area("runs.followers", lambda _: Followers())
    shelf = library(site)

    def make() -> Follower:
        return Follower(name, shelf.metrics(folder), lambda: _state(site, name, folder))

    return followers.follower(folder, make)


def _state(site: Site, name: str, folder: Path) -> State:
    """How a run is doing; of a part of another one its folder alone says it."""
    if folder.parent == site.runs:
        return controls.processes(site).state(name)
    if held(folder / ".lock"):
        return State("elsewhere")
    return ended(folder, None, since=0, code=None, asked=())


def _url(name: str) -> str:
    return f"/runs/{quote(name, safe=SEPARATOR)}"


def _number(request: Request, name: str) -> float | None:
    """A number from the address; None where it is not given."""
    text = request.query_params.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e15:
        raise ValueError(f"{name}={text[:40]} is no number: leave it out, or give one")
    return value
