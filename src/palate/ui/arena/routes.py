"""The arena's pages and actions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from palate.ui.arena.arena import Arena
from palate.ui.arena.asking import Manner
from palate.ui.arena.contenders import offered, read
from palate.ui.arena.talks import Duel, Talk, system_of
from palate.ui.pages import FieldErrors, NotThere, Page, action, me, page, stream
from palate.ui.site import Site

GONE = "this conversation is not here any more: begin a new one (its votes are in the store)"


def routes() -> list[BaseRoute]:
    """The duel for everybody, and the choice of contenders for the owner."""
    return [
        *page("/arena", show_new, owner=False),
        *page("/arena/contenders", show_contenders),
        *page("/arena/talk/{talk}", show_talk, owner=False),
        *action("/arena/contenders", choose),
        *action("/arena/start", start),
        *action("/arena/ask", ask, owner=False),
        *action("/arena/talk/{talk}/again", again, owner=False),
        *action("/arena/talk/{talk}/vote", vote, owner=False),
        *stream("/arena/talk/{talk}/duel/{duel}", follow, owner=False),
    ]


def glance(site: Site) -> str:
    """Who stands in the arena just now."""
    pair = arena_of(site).pair
    return f"{pair[0].name} against {pair[1].name}" if pair else "no models chosen yet"


def arena_of(site: Site) -> Arena:
    """The site's arena; two models of the command line stand in it from the start."""

    def make(site: Site) -> Arena:
        arena = Arena(site.store)
        if len(site.settings.models) == 2:
            try:
                first, second = (read(one, site.runs) for one in site.settings.models)
                arena.choose(first, second, load=False)
            except ValueError as error:  # the pages are there all the same
                site.say(f"the arena is empty: {error}")
        return arena

    return site.area("arena", make)


def show_new(site: Site, request: Request) -> Page:
    """A new conversation: whether models stand in the arena, how they load, and the limits."""
    return _shown(site, request, None)


def show_talk(site: Site, request: Request) -> Page:
    """A conversation of one's own: its turns, and the duel with both answers so far.

    Names are null before the vote.
    """
    return _shown(site, request, _talk(site, request))


def show_contenders(site: Site, _request: Request) -> Page:
    """Who may stand in the arena, who does, and how the process with their models stands."""
    arena, settings = arena_of(site), site.settings
    listed = [
        {"key": one.key, "name": one.name, "kind": one.kind}
        for one in offered(site.runs, settings.models)
    ]
    pair = [one.key for one in arena.pair] if arena.pair else []
    facts = {"offered": listed, "pair": pair, "runs": str(site.runs)}
    return Page("arena_contenders.html.j2", {**facts, "serving": _serving(arena)})


def choose(site: Site, _request: Request, given: dict[str, Any]) -> Mapping[str, Any]:
    """Let two models stand in the arena: `{"first": KEY, "second": KEY}`, and load them.

    A key is one of the page's, a model as in a recipe, or `URL#MODEL key_env=VARIABLE`.
    """
    found, problems = [], {}
    for name in ("first", "second"):
        try:
            found.append(read(str(given.get(name, "")), site.runs))
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        raise FieldErrors("these two models cannot be used", problems)
    arena = arena_of(site)
    arena.choose(found[0], found[1])
    return {"pair": [one.key for one in found], "serving": _serving(arena)}


def start(site: Site, _request: Request, _given: dict[str, Any]) -> Mapping[str, Any]:
    """Start the process with the models again, unless it runs."""
    arena = arena_of(site)
    arena.start()
    return {"serving": _serving(arena)}


def ask(site: Site, request: Request, given: dict[str, Any]) -> Mapping[str, Any]:
    """Ask both models: `{"said": …, "talk"?: ID, "system"?, "temperature"?, "max_tokens"?}`.

    Answered with `{"talk": ID, "duel": ID}`; `GET /arena/talk/ID/duel/ID` streams the answers.
    Without `talk` a new conversation begins, under the system prompt.
    """
    arena, person = arena_of(site), me(request)
    manner, said = _manner(site, given), str(given.get("said", ""))
    key = given.get("talk")
    if key is None:
        talk = Talk(person.name, system_of(given.get("system")))
        duel = arena.begin(talk, talk.asked(said), manner)
        arena.talks.add(talk)
    else:
        talk = _find(arena, str(key), person.name)
        last = talk.duel
        if last is not None and last.votable and last.choice is None:
            raise ValueError("say first which answer is better, or ask again")
        duel = arena.begin(talk, talk.asked(said), manner)
    return {"talk": talk.id, "duel": duel.id}


def again(site: Site, request: Request, given: dict[str, Any]) -> Mapping[str, Any]:
    """Ask the same once more, with sides drawn anew: `{"temperature"?, "max_tokens"?}`.

    For answers that have no vote, or that were both bad; what came before is not kept.
    """
    talk, last = _talk(site, request), _talk(site, request).duel
    if last is None:
        raise ValueError("nothing has been asked yet")
    if last.choice not in {None, "bad"}:
        raise ValueError("the conversation has gone on from the better answer: write on")
    duel = arena_of(site).begin(talk, last.prompt, _manner(site, given))
    return {"talk": talk.id, "duel": duel.id}


def vote(site: Site, request: Request, given: dict[str, Any]) -> Mapping[str, Any]:
    """Vote: `{"duel": ID, "choice": "1" … "5" or "bad"}`, from clearly left to clearly right.

    Answered with the names, the tally of this pairing, and the side that the conversation goes on
    from. It is in the store when this is answered.
    """
    talk = _talk(site, request)
    _duel(talk, str(given.get("duel", "")))
    return arena_of(site).vote(talk, str(given.get("choice", "")), me(request).name)


async def follow(site: Site, request: Request) -> AsyncIterator[Mapping[str, Any]]:
    """The answers as they come: `left` and `right` with `text`, `ended` with `side` and `finish`.

    `state` says what is waited for, `done` has the whole duel. Leaving ends both answers.
    """
    duel = _duel(_talk(site, request), request.path_params["duel"])
    async for event in arena_of(site).events(duel):
        yield event


def _shown(site: Site, request: Request, talk: Talk | None) -> Page:
    arena = arena_of(site)
    facts = {
        "ready": arena.pair is not None,
        "talk": talk.to_dict() if talk is not None else None,
        "serving": _serving(arena),
        "limits": {"max_tokens": site.settings.max_tokens},
        "may_choose": me(request).owner,
    }
    return Page("arena.html.j2", facts)


def _serving(arena: Arena) -> Mapping[str, Any] | None:
    """How the process with the models stands, without its address and key."""
    serving = arena.serving()
    if serving is None:
        return None
    return {"state": serving.state, "why": serving.why, "note": serving.note}


def _talk(site: Site, request: Request) -> Talk:
    return _find(arena_of(site), request.path_params["talk"], me(request).name)


def _find(arena: Arena, key: str, person: str) -> Talk:
    talk = arena.talks.find(key, person)
    if talk is None:
        raise NotThere(GONE)
    return talk


def _duel(talk: Talk, key: str) -> Duel:
    if talk.duel is None or talk.duel.id != key:
        raise NotThere("these answers are not the last ones any more: load the page again")
    return talk.duel


def _manner(site: Site, given: Mapping[str, Any]) -> Manner:
    """Temperature and length of a form; raises `FieldErrors`."""
    most = site.settings.max_tokens
    temperature, tokens = given.get("temperature", 0.8), given.get("max_tokens", most)
    problems = {}
    numeric = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not numeric or not 0 <= temperature <= 2:
        problems["temperature"] = "a number from 0 to 2"
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= most:
        problems["max_tokens"] = f"a whole number from 1 to {most}"
    if problems:
        raise FieldErrors("the models cannot be asked so", problems)
    return Manner(float(temperature), tokens)
