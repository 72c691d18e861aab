"""What each annotator gets next, out of everything that can be labelled.

The store is looked through once, by a thread, and again when it has grown; meanwhile the pages
serve what is known so far. Who has which item at hand, and what was said, is in the store: this
object can be lost at any moment, and another server may use the same store.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from palate.store.database import Store, StoreError
from palate.store.items import Item, parse
from palate.store.leasing import lease, leases_of
from palate.store.schema import EVENT, INTERACTION
from palate.store.voting import Word, words
from palate.ui.label.memory import Memory
from palate.ui.label.ranking import Candidate, canonical, ranked, share
from palate.ui.label.scan import Found, scan

Show = Literal["pairs", "single"]
SHOWS: tuple[Show, ...] = ("pairs", "single")
TWICE = 0.05
"""The share of an annotator's pairs that come again, with the sides swapped."""
BETWEEN = 20
"""How many others come before that."""
_FIRST = 500  # interactions after which something is served; then at each doubling
_LOOK = 5.0  # seconds between two looks at whether the store has grown
_REST = 4.0  # a scan is followed by a rest of so many times its duration
_PATIENCE = 30.0  # seconds behind others' writes, after which a word is said not to be kept
_WORDS = 50  # events of others that are not worth a scan


@dataclass(frozen=True, slots=True)
class Served:
    """An item, and whether the annotator sees it for the first (0) or the second time (1)."""

    item: Item
    round: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Words of the annotator, all items, and those that still want a word of this annotator."""

    mine: int
    total: int
    left: int
    reading: bool


class _Line:
    """The items of one kind in their order; `first` is where those begin that are not done."""

    def __init__(self, order: Sequence[Candidate]) -> None:
        self.order = order
        self.places = {one.key: place for place, one in enumerate(order)}
        self.first = 0


class _OneWriter:
    """A lock that is not waited for without end: behind a store that is locked all would stand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=_PATIENCE):
            raise StoreError("another program is writing to the store: try again in a moment")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Queue:
    """Items for annotators; safe from several threads. `close` ends the reading."""

    def __init__(
        self,
        store: Store,
        *,
        overlap: float = 0.15,
        minutes: float = 10.0,
        twice: float = TWICE,
        between: int = BETWEEN,
    ) -> None:
        self.store, self.overlap, self.minutes = store, overlap, minutes
        self.twice, self.between = twice, between
        self.memory = Memory(self.wanted)
        self.reading = True
        self.one_writer = _OneWriter()
        """SQLite lets one write, and others wait by looking again ever more seldom: threads of one
        server wait here instead, and go on at once."""
        self._lines: dict[Show, _Line] = {show: _Line(()) for show in SHOWS}
        self._lock = threading.RLock()
        self._end = threading.Event()
        self._asked = threading.Event()
        self._ready = threading.Event()
        self._twice: dict[tuple[str, str], bool] = {}
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="label-queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._end.set()
        self._asked.set()
        self._thread.join()

    def ready(self, seconds: float) -> bool:
        """Wait until the whole store has been looked through once; whether it has."""
        return self._ready.wait(seconds)

    def wanted(self, key: str) -> int:
        """How many annotators an item is for: two where the hash of its name says so."""
        return 2 if share("overlap", key) < self.overlap else 1

    def next(self, annotator: str, show: Show, held: Collection[str] = ()) -> Served | None:
        """What the annotator gets now, leased to nobody else; None where nothing is left.

        `held` are keys of items that the annotator's page has already. What was leased before and
        is not among them comes first, so that a page that is loaded again shows the same.
        """
        self._asked.set()
        held = {canonical(parse(key)) for key in held}
        for key in leases_of(self.store, annotator):
            mine = parse(key)
            if canonical(mine) in held or (len(mine.places) == 1) != (show == "single"):
                continue
            found = self._round(annotator, mine)
            if found is not None:
                return found
        with self._lock:
            repeat = None if show == "single" else self._repeat(annotator, held)
        # Whatever others have of it: this is between the annotator and the pair.
        if repeat is not None and self._lease_again(annotator, repeat):
            return Served(repeat, 1)
        offered = self._offered(annotator, show, held)
        with self.one_writer:
            item = lease(self.store, annotator, offered, self.minutes)
        return None if item is None else Served(item, 0)

    def note(self, item: Item, word: Word) -> None:
        """Take in a word that is on the disk by now."""
        with self._lock:
            self._written += 1
            self.memory.note(canonical(item), word)

    def forget(self, item: Item, word: Word) -> None:
        """Take in that a word was taken back, and let the annotator have the item again."""
        with self._lock:
            self.memory.forget(canonical(item), word)
            for line in self._lines.values():
                line.first = min(line.first, line.places.get(canonical(item), line.first))
        self._lease_again(word.annotator, item)

    def gone(self, item: Item) -> None:
        """Take in that an item's conversation was deleted."""
        with self._lock:
            self.memory.gone.add(canonical(item))

    def progress(self, annotator: str, show: Show) -> Progress:
        """How far the annotator is."""
        with self._lock:
            line, many = self._lines[show], 1 if show == "single" else 2
            over = {*self.memory.closed(), *self.memory.seen(annotator)}
            said, total = self.memory.said(annotator, many), len(line.order)
            return Progress(said, total, total - len(over & line.places.keys()), self.reading)

    def _lease_again(self, annotator: str, item: Item) -> bool:
        """Lease what the annotator has seen before, whoever else has it."""
        with self.one_writer:
            return lease(self.store, annotator, [(item, sys.maxsize)], self.minutes) is not None

    def _round(self, annotator: str, item: Item) -> Served | None:
        """What the annotator's lease of an item is for; None if all was said."""
        with self._lock:
            said = self.memory.rounds(annotator, canonical(item))
            if not said:
                return Served(item, 0)
            due = self._repeat(annotator, ())
        again = due is not None and canonical(due) == canonical(item)
        return Served(item, 1) if again else None

    def _repeat(self, annotator: str, held: Collection[str]) -> Item | None:
        """The pair that is due for a second look."""
        history = self.memory.history(annotator)
        for place, (key, word) in enumerate(history):
            if len(history) - place <= self.between:
                return None
            item = Item(word.interaction, tuple(sorted(word.shown)))
            again = word.kind in {"vote", "tie"} and word.round == 0 and len(word.shown) == 2
            if not again or key in held or not self._comes_twice(annotator, key):
                continue
            if 1 not in self.memory.rounds(annotator, key) and key not in self.memory.gone:
                return item
        return None

    def _comes_twice(self, annotator: str, key: str) -> bool:
        name = annotator, key
        if name not in self._twice:
            self._twice[name] = share("twice", annotator, key) < self.twice
        return self._twice[name]

    def _offered(
        self, annotator: str, show: Show, held: Collection[str]
    ) -> Iterator[tuple[Item, int]]:
        """What is open, first what another has begun, last what somebody has reported."""
        with self._lock:
            line, memory = self._lines[show], self.memory
            mine = memory.seen(annotator)
            while line.first < len(line.order) and memory.is_done(line.order[line.first].key):
                line.first += 1
            begun = sorted((line.places[key], key) for key in memory.begun() if key in line.places)
            places = [place for place, _ in begun]
        offered = (line.order[place] for place in (*places, *range(line.first, len(line.order))))
        reported: list[Candidate] = []
        for one in offered:
            if one.key in mine or one.key in held or memory.is_done(one.key):
                continue
            if memory.is_flagged(one.key):
                reported.append(one)
                continue
            yield one.item, self.wanted(one.key)
        yield from ((one.item, self.wanted(one.key)) for one in reported)

    def _run(self) -> None:
        known: tuple[int, int] | None = None
        while not self._end.is_set():
            try:
                known = self._look(known)
            except ValueError:  # the store fails for whoever asks it too, and they say why
                known = None
            self._asked.clear()
            if not self._end.wait(_LOOK):
                self._asked.wait()

    def _look(self, known: tuple[int, int] | None) -> tuple[int, int]:
        """Read the store if it has grown since it was so large; how large it is."""
        began, size = time.monotonic(), self._size()
        if known is not None and size[0] == known[0] and abs(size[1] - known[1]) <= _WORDS:
            return known
        self._read()
        self._end.wait((time.monotonic() - began) * _REST)
        return size

    def _size(self) -> tuple[int, int]:
        """How many interactions there are, and events that did not come from here."""
        with self.store.reading() as connection:
            counts = [
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (INTERACTION, EVENT)
            ]
        return counts[0], counts[1] - self._written

    def _read(self) -> None:
        """Everything anew: first what was said, then what can be labelled."""
        with self._lock:
            self.memory.begin()
        said = words(self.store)
        with self._lock:
            self.memory.replace(said)
            self.reading = not self._ready.is_set()
        served, found = _FIRST, None
        for found in scan(self.store):
            if self._end.is_set():
                return
            if self.reading and found.interactions >= served:
                self._publish(found)
                served = 2 * found.interactions
        self._publish(found or Found())
        self.reading = False
        self._ready.set()

    def _publish(self, found: Found) -> None:
        with self._lock:
            shown = self.memory.touched()
        pairs = ranked([*found.pairs, *found.across()], shown)
        lines: dict[Show, _Line] = {"pairs": _Line(pairs), "single": _Line(())}
        lines["single"] = _Line(ranked(found.singles, shown))
        with self._lock:
            self._lines = lines
