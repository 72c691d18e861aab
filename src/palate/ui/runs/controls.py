"""Routes that start, stop and resume runs, and the form for a new one."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from palate.ui.environment import environment
from palate.ui.pages import FieldErrors, NotThere, Page, action, page
from palate.ui.runs.bases import bases, begin, free_name
from palate.ui.runs.form import Read, read
from palate.ui.runs.log import last_error, tail
from palate.ui.runs.names import check_name
from palate.ui.runs.page_of_form import form_facts
from palate.ui.runs.processes import COMMAND, Processes, near
from palate.ui.runs.states import State
from palate.ui.site import Site

_LONGEST = 180.0
"""Seconds for `palate doctor` and `palate init`."""
_SHOWN = 200
_checking = threading.Lock()
WORDS = {
    "running": "running",
    "saving": "saving",
    "elsewhere": "trained by another process",
    "complete": "complete",
    "stopped": "stopped",
    "refused": "refused",
    "failed": "failed",
    "unfinished": "not finished",
}
_LOOK = {"running": "good", "complete": "good", "saving": "warn", "refused": "bad", "failed": "bad"}


def routes() -> list[BaseRoute]:
    """The form and what it asks for, and the controls of a run. Before `/runs/{name}`."""
    return [
        *page("/runs/new", show_form),
        *action("/runs/new/recipe", preview),
        *action("/runs/new/check", check),
        *action("/runs/new/init", init),
        *action("/runs/new/start", start),
        *action("/runs/{name}/stop", stop),
        *action("/runs/{name}/resume", resume),
        *page("/runs/{name}/log", show_log),
    ]


def processes(site: Site) -> Processes:
    """The site's runs as processes."""
    return site.area("runs.processes", lambda made: Processes(made.runs))


def controls(site: Site, name: str) -> dict[str, Any]:
    """What `_run_controls.html.j2` shows of a run: its state, and what can be done about it."""
    return _facts(name, processes(site).state(name))


def show_form(site: Site, request: Request) -> Page:
    """The form for a new run, begun `?from=` one of the bases that it lists."""
    known = bases(site.runs)
    key = request.query_params.get("from", "")
    listed = [
        {"key": base.key, "name": base.name, "kind": base.kind, "about": base.about}
        for base in known.values()
    ]
    facts: dict[str, Any] = {"bases": listed, "base": None, "form": None, "store": _store(site)}
    if key:
        if key not in known:
            raise NotThere("there is no such recipe to begin from: /runs/new lists them")
        values = begin(known[key], site.runs, site.settings.db)
        base = {"key": key, "name": known[key].name, "about": known[key].about}
        facts |= {"base": base, "form": form_facts(values)}
    return Page("run_new.html.j2", facts)


def preview(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """What the form's `{"fields": …}` mean: `recipe` as YAML, `command`, and `errors` by field."""
    found = _read(site, given)
    name = str(given["fields"].get("name", ""))
    command = f"palate train {shlex.quote(near(str(processes(site).recipe(name))))}"
    return {
        "recipe": found.text,
        "command": command if found.config else "",
        "errors": dict(found.errors),
    }


def check(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Look whether a recipe would run, without starting it: what `palate doctor` says of it."""
    found = _sound(site, given)
    with tempfile.TemporaryDirectory(prefix="palate-") as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(found.text, encoding="utf-8")
        code, lines = _ask("doctor", str(recipe))
    said = [line.replace(str(recipe), "this recipe") for line in lines]
    return {"passed": code == 0, "error": last_error(said), "lines": said}


def init(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, str]:
    """Look at data as `palate init` does, and keep its recipe: `{"model": …, "data": …}`.

    The answer's `url` is the form, begun from it.
    """
    words = {key: str(given.get(key, "")).strip() for key in ("model", "data")}
    missing = {key: "this is needed" for key, word in words.items() if not word}
    if missing:
        raise FieldErrors("a model and data are needed", missing)
    stem = Path(words["data"].rstrip("/")).name.split(".")[0]
    name = free_name(site.runs, stem)
    target = processes(site).recipe(name)
    number = 1
    while target.exists():
        number += 1
        target = processes(site).recipe(f"{name}-{number}")
    # Behind `--` nothing is an option, whatever it looks like.
    code, lines = _ask("init", "-o", str(target.absolute()), "--", words["model"], words["data"])
    if code != 0:
        raise ValueError(last_error(lines) or "palate init has failed")
    return {"url": f"/runs/new?from=kept/{target.stem}"}


def start(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Start a run by the form's `{"fields": …}`; the answer has its `name` and `url`."""
    found = _sound(site, given)
    assert found.config is not None, "what has no errors has a config"
    name = found.config.name
    try:
        check_name(name)
        processes(site).start(name, found.text, found.config)
    except ValueError as error:
        raise FieldErrors(str(error), {"name": str(error)}) from error
    return {"name": name, "url": f"/runs/{name}"}


def stop(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Ask a run to save and end; `{"insist": "term"}` and then `"kill"` if it does not."""
    insist = given.get("insist", "")
    if insist not in {"", "term", "kill"}:
        raise ValueError("insist is term or kill")
    name = request.path_params["name"]
    return _facts(name, processes(site).stop(name, insist))


def resume(site: Site, request: Request, _given: dict[str, Any]) -> dict[str, Any]:
    """Go on with a run that is not complete."""
    name = request.path_params["name"]
    return _facts(name, processes(site).resume(name))


def show_log(site: Site, request: Request) -> Page:
    """A run's state, and the last lines that its process wrote."""
    name = request.path_params["name"]
    facts = controls(site, name)
    return Page("run_log.html.j2", {"run": facts, "lines": tail(processes(site).log(name))})


def _facts(name: str, state: State) -> dict[str, Any]:
    return {
        "name": name,
        **asdict(state),
        "words": WORDS[state.word],
        "look": _LOOK.get(state.word, ""),
    }


def _read(site: Site, given: Mapping[str, Any]) -> Read:
    fields = given.get("fields")
    if not isinstance(fields, dict):
        raise ValueError('the form is sent as {"fields": {…}}')
    return read(fields, str(site.runs))


def _sound(site: Site, given: Mapping[str, Any]) -> Read:
    found = _read(site, given)
    if found.errors:
        raise FieldErrors("some fields need another look", found.errors)
    return found


def _ask(*words: str) -> tuple[int, list[str]]:
    """What a short command of ours says, and its exit code; one at a time."""
    if not _checking.acquire(blocking=False):
        raise ValueError("a check is under way already: wait for it")
    try:
        with tempfile.TemporaryDirectory(prefix="palate-") as folder:
            said = Path(folder) / "said.txt"
            with said.open("wb") as file:
                done = subprocess.run(  # noqa: S603 - ours, with arguments as a list
                    [*COMMAND, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                    timeout=_LONGEST,
                    check=False,
                )
            return done.returncode, tail(said, lines=_SHOWN)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the check took more than {_LONGEST:.0f} seconds") from None
    finally:
        _checking.release()


def _store(site: Site) -> str:
    """The store's file, to begin with; its address may hold a password."""
    return "" if "://" in site.settings.db else site.settings.db
