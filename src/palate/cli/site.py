"""`palate ui`: the site over the store and the runs."""

from __future__ import annotations

import getpass
import json
import re
import secrets
import webbrowser
from typing import Any

import typer

from palate.config import ConfigError
from palate.progress import reporter_for


def run_ui(flags: dict[str, Any], annotators: list[str], *, browser: bool, as_json: bool) -> None:
    """Serve the site until told to end; `flags` are fields of its `Settings`.

    Raises `ConfigError`.
    """
    try:
        from palate.ui.people import People
        from palate.ui.running import run
        from palate.ui.settings import Settings
        from palate.ui.site import Site
    except ImportError as error:
        raise ConfigError(f"ui needs {error.name}: pip install 'palate[web]'") from error
    drawn = flags["token"] is None
    flags["token"] = secrets.token_urlsafe(24) if drawn else flags["token"]
    flags["me"] = flags["me"] or _user()
    settings = Settings(**flags)
    people = People(settings.token, settings.me)
    for name in annotators:
        people.link("", name)  # refuses names that cannot be, before anything is made
    note = reporter_for().note
    if not settings.loopback:
        if drawn:
            raise ConfigError(
                f"--host {settings.host} can be reached by others: choose a secret with --token"
            )
        note(
            f"warning: {settings.host} can be reached by others, and what passes is not encrypted: "
            "put a proxy with TLS before it, or use a tunnel"
        )

    def ready(site: Site) -> None:
        mine = site.people.link(site.url)
        links = {name: site.people.link(site.url, name, "/label") for name in annotators}
        if as_json:
            typer.echo(json.dumps({"url": site.url, "link": mine, "annotators": links}))
        else:
            typer.echo(f"the site is open at  {mine}")
            for name, link in links.items():
                typer.echo(f"{name} labels at  {link}")
            typer.echo("Ctrl-C ends it; runs that were started there go on")
        if browser:
            webbrowser.open(mine)

    run(settings, note, ready)


def _user() -> str:
    """The name of whoever started it, in the letters that a name of ours may have."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "owner"
    return re.sub(r"[^\w.@-]", "", name, flags=re.ASCII)[:40].lstrip(".@-") or "owner"
