"""The labelling page and what it sends. Everybody with a link may use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from palate.store.database import StoreError
from palate.store.items import Item, example_of_item, home, parse, settle_home
from palate.store.leasing import release
from palate.store.reading import stored_of
from palate.store.voting import ROUNDS, Word, keep, withdraw, word, word_id, words_of
from palate.ui.label.guidelines import read_guidelines
from palate.ui.label.queue import SHOWS, Queue, Served, Show
from palate.ui.label.showing import entry, order_of, shown_item, word_from
from palate.ui.pages import NotThere, Page, action, me, page
from palate.ui.site import Site

LAST = 10
"""So many of an annotator's words stay at hand, to be changed."""
LONGEST = 20_000  # letters of a note; an edit is as long as the site takes
_TRIES = 20  # items whose conversation was deleted, one after the other


def routes() -> list[BaseRoute]:
    """The page, and the actions of it."""
    return [
        *page("/label", show_label, owner=False),
        *action("/label/vote", vote, owner=False),
        *action("/label/skip", skip, owner=False),
        *action("/label/flag", flag, owner=False),
        *action("/label/undo", undo, owner=False),
    ]


def glance(site: Site) -> str:
    """How much is left to the owner, as far as the store has been read."""
    left = [queue_of(site).progress(site.people.owner.name, show) for show in SHOWS]
    words = ", ".join(
        f"{one.left:,} {name} left"
        for one, name in zip(left, ("pairs", "single answers"), strict=True)
    )
    return f"{words}{' so far: the store is being read' if left[0].reading else ''}"


def queue_of(site: Site) -> Queue:
    """The site's queue, which begins to read the store when it is first asked for."""
    limits = site.settings
    return site.area(
        "label", lambda site: Queue(site.store, overlap=limits.overlap, minutes=limits.lease)
    )


def show_label(site: Site, request: Request) -> Page:
    """The next item to label, leased to whoever asks.

    `show` is pairs (the default) or single. `held` (several times) names items that the page has
    already, so that the one after them is given. `item` with `round` gives that very item, to
    change what was said of it. Answers `item`: null, or `item` (its key), `round`, `kind` (pair,
    single), `turns`, `tools`, `answers` in the order shown (`text` with self-naming masked,
    `whole` as written where that differs) and `said`, what was said of it before (`say`, `note`,
    `edit`) or null; `progress`: `mine`, `total`, `left`, `reading`; `last`: the last ten words;
    `guidelines`; `show`.
    """
    queue, who = queue_of(site), me(request).name
    show = _show(request.query_params.get("show", "pairs"))
    # Before the item: where none is known yet, the store must still count as being read.
    progress = asdict(queue.progress(who, show))
    if "item" in request.query_params:
        served = Served(
            parse(request.query_params["item"]), _round(request.query_params.get("round", "0"))
        )
        try:
            item: dict[str, Any] | None = _shown(site, served, who)
        except StoreError:
            raise
        except ValueError as error:
            raise NotThere(str(error)) from None
    else:
        item = _next(site, queue, who, show, request.query_params.getlist("held"))
    return Page(
        "label.html.j2",
        {
            "show": show,
            "item": item,
            "progress": progress,
            "last": _last(site, who),
            "guidelines": read_guidelines(site.settings.guidelines),
        },
    )


def vote(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """A word on an item; it is on the disk before this is answered.

    `item`, `round` and `say` (clearly-first, slightly-first, tie, slightly-second,
    clearly-second, both-bad; of a single answer up, down), perhaps `note`, and `edit`: the better
    answer as it should have been. Another vote on the same item takes the place of the first,
    whether its lease lasts or not. Answers `kept`: the word with `models` and `lengths` in the
    order shown; and `progress`.
    """
    return _keep(site, request, given, _text(given, "say", needed=True))


def skip(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Pass an item over: it does not come again to whoever skips it.

    `item`, `round`, perhaps `note`. Answers as a vote is answered.
    """
    return _keep(site, request, given, "skip")


def flag(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Report an item that should not be here.

    It does not come again to whoever reports it, and to others last. `item`, `round`, perhaps
    `note`: why. Answers as a vote is answered.
    """
    return _keep(site, request, given, "flag")


def undo(site: Site, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """Take back the last word, or that on `item` in `round`, with its edit.

    Answers `undone`: the item as the page shows it, to be judged again, with what had been said;
    null if there was nothing to take back; and `progress`.
    """
    queue, who = queue_of(site), me(request).name
    said = _named(site, who, given) if "item" in given else next(_said(site, who), None)
    undone = None
    if said is not None:
        item = Item(said.interaction, tuple(sorted(said.shown)))
        undone = _shown(site, Served(item, said.round), who)
        with queue.one_writer:
            withdraw(site.store, said.id)
        queue.forget(item, said)
    kind = "pair" if undone is None else undone["kind"]
    return {"undone": undone, "progress": _progress(queue, who, kind)}


def _keep(site: Site, request: Request, given: dict[str, Any], say: str) -> dict[str, Any]:
    queue, who = queue_of(site), me(request).name
    item, turn = _item(given), _round(given.get("round", 0))
    note, edit = _text(given, "note"), _text(given, "edit", limit=site.settings.body)
    stands = settle_home(site.store, item)
    shown = order_of(site.store, item, who, turn)
    told: dict[str, Any] = {"comment": note or None, "edit": edit}
    said = word_from(say, who, stands, shown, turn, **told)
    if edit is not None and (said.choice is None or said.kind == "tie"):
        raise ValueError("an edit goes with a vote for the answer that it improves")
    if edit is not None and not edit.strip():
        raise ValueError("an edit has words: take the vote alone, or write the better answer")
    example = example_of_item(site.store, item)
    if edit is not None and edit.strip() == example.completions[said.choice or 0].text.strip():
        told["edit"] = None  # nothing was changed
        said = word_from(say, who, stands, shown, turn, **told)
    with queue.one_writer:
        keep(site.store, said, item.key)
    queue.note(item, said)
    kept = word(site.store, said.id) or said
    progress = _progress(queue, who, "pair" if len(shown) == 2 else "single")
    return {"kept": entry(example, item, kept), "progress": progress}


def _next(
    site: Site, queue: Queue, who: str, show: Show, held: Sequence[str]
) -> dict[str, Any] | None:
    """The next item that is still there."""
    for _ in range(_TRIES):
        served = queue.next(who, show, held)
        if served is None:
            return None
        try:
            return _shown(site, served, who)
        except StoreError:
            raise
        except ValueError:  # deleted since the store was read
            queue.gone(served.item)
            release(site.store, who, [served.item.key])
    return None


def _shown(site: Site, served: Served, who: str) -> dict[str, Any]:
    return shown_item(site.store, served.item, who, served.round)


def _last(site: Site, who: str) -> list[dict[str, Any]]:
    """The last words of the annotator, the latest first."""
    said = words_of(site.store, who, LAST)
    found = {one.id: one.example for one in stored_of(site.store, [s.interaction for s in said])}
    return [
        entry(found[one.interaction], Item(one.interaction, tuple(sorted(one.shown))), one)
        for one in said
        if one.interaction in found
    ]


def _said(site: Site, who: str) -> Any:
    return iter(words_of(site.store, who, 1))


def _named(site: Site, who: str, given: Mapping[str, Any]) -> Word | None:
    item, turn = _item(given), _round(given.get("round", 0))
    stands = home(site.store, item)
    return None if stands is None else word(site.store, word_id(who, stands, item.places, turn))


def _progress(queue: Queue, who: str, kind: str) -> dict[str, Any]:
    return asdict(queue.progress(who, "single" if kind == "single" else "pairs"))


def _item(given: Mapping[str, Any]) -> Item:
    key = given.get("item")
    if not isinstance(key, str):
        raise ValueError("the request names no item: send the `item` that the page was given")
    return parse(key)


def _round(value: Any) -> int:
    if str(value) not in {str(turn) for turn in ROUNDS}:
        raise ValueError(f"there is no round {str(value)[:20]}: it is 0, or 1 when shown again")
    return int(value)


def _show(value: str) -> Show:
    for show in SHOWS:
        if value == show:
            return show
    raise ValueError(f"'{value[:40]}' cannot be shown: it is pairs or single")


def _text(
    given: Mapping[str, Any], name: str, *, needed: bool = False, limit: int = LONGEST
) -> Any:
    """The text of that name, None where there is none; `ValueError` for another value."""
    value = given.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"`{name}` is a text of at most {limit:,} letters")
    return value
