"""The page of agreement, the last word on what people differ about, and the votes as CSV."""

from __future__ import annotations

import threading
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from palate.store.database import Store
from palate.store.settling import settle, unsettle
from palate.ui.agreement.figures import figures
from palate.ui.agreement.queue import SHOWN, WORDS, disagreements, last_word, shown_items
from palate.ui.agreement.sheet import sheet
from palate.ui.agreement.votes import Said, State, Votes, read_votes, state_of
from palate.ui.pages import NotThere, Page, action, me, page, raw
from palate.ui.site import Site


class Counted:
    """The votes and their figures, counted anew when the store's events have changed."""

    def __init__(self, site: Site) -> None:
        self._store: Store = site.store
        self._lock = threading.Lock()
        self._state: State | None = None
        self._votes = Votes()
        self._figures: dict[str, Any] | None = None
        self._divided: list[list[Said]] = []

    def now(self) -> tuple[Votes, list[list[Said]]]:
        """The votes as they are, and what people disagree about."""
        with self._lock:
            state = state_of(self._store)
            if state != self._state:
                self._votes, self._figures = read_votes(self._store), None
                self._divided = disagreements(self._votes)
                self._state = state
            return self._votes, self._divided

    def again(self) -> int:
        """Count anew after a change of ours; how many items are disputed still."""
        with self._lock:
            self._state = None
        return len(self.now()[1])

    def figures(self) -> dict[str, Any]:
        """The figures of the votes that `now` gave last."""
        with self._lock:
            if self._figures is None:
                self._figures = figures(self._votes)
            return self._figures


def routes() -> list[BaseRoute]:
    """Everything under /agreement."""
    return [
        *page("/agreement", show_agreement),
        *action("/agreement/settle", settle_item),
        *action("/agreement/unsettle", unsettle_item),
        *raw("/agreement/votes.csv", give_votes),
    ]


def glance(site: Site) -> str:
    """Where labelling stands, in one line."""
    votes, divided = _counted(site).now()
    number = len(votes.pairs) + len(votes.singles)
    if not number:
        return "no votes yet"
    names = {one.vote.by for one in (*votes.pairs, *votes.singles) if not one.vote.judged}
    whose = _many(len(names), "person", "people")
    return f"{_many(number, 'vote')} of {whose}, {len(divided):,} disputed"


def show_agreement(site: Site, request: Request) -> Page:
    """Who voted how much, how far people and judges agree, and what people disagree about.

    `?page=2` is the next ten of the disagreements. Each figure has `value`, the 95 % interval from
    `low` to `high`, the `count` of items behind it, and in `why` what it or its interval lacks.
    """
    counted = _counted(site)
    _, divided = counted.now()
    pages = max(1, -(-len(divided) // SHOWN))
    wanted = request.query_params.get("page", "1")
    number = min(pages, int(wanted)) if wanted.isascii() and wanted.isdigit() else 1
    at = SHOWN * (max(1, number) - 1)
    queue = {
        "count": len(divided),
        "page": at // SHOWN + 1,
        "pages": pages,
        "words": WORDS,
        "disputes": shown_items(site.store, divided[at : at + SHOWN]),
    }
    facts = {"store": site.store.name, **counted.figures(), "queue": queue}
    return Page("agreement.html.j2", facts)


def settle_item(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Give the last word on an item: `{"item": …, "word": …}` as `queue` names them.

    It counts instead of all votes on these answers, and the item leaves the queue. Answered with
    `{"item", "word", "left"}`, `left` being what is disputed still.
    """
    one = _voice(site, given)
    word = str(given.get("word", ""))
    settle(site.store, one.interaction, one.places, last_word(one.places, word, me(request).name))
    return {"item": one.item, "word": word, "left": _counted(site).again()}


def unsettle_item(site: Site, _request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Take the last word on `{"item": …}` back, so that the votes count again."""
    one = _voice(site, given)
    if not unsettle(site.store, one.interaction, one.places):
        raise NotThere("this item is not settled: reload the page")
    return {"item": one.item, "left": _counted(site).again()}


def give_votes(site: Site, _request: Request) -> Response:
    """All votes as CSV; what a spreadsheet would take for a formula begins with an apostrophe."""
    votes, _ = _counted(site).now()
    headers = {"content-disposition": 'attachment; filename="votes.csv"'}
    return Response(sheet(votes), media_type="text/csv; charset=utf-8", headers=headers)


def _voice(site: Site, given: dict[str, Any]) -> Said:
    votes, _ = _counted(site).now()
    wanted = given.get("item")
    for one in (*votes.pairs, *votes.singles):
        if one.item == wanted:
            return one
    raise NotThere("nobody voted on this item: reload the page")


def _counted(site: Site) -> Counted:
    return site.area("agreement", Counted)


def _many(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
