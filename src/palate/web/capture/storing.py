"""The thread that takes what waits in the spill folder and puts it into the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event, Thread
from time import monotonic
from typing import Protocol

from palate.records import Arrival, RecordError
from palate.web.capture.journal import Journal
from palate.web.capture.rows import arrivals_of

BATCH = 500  # rows in one transaction
_IDLE = 1.0  # seconds after which an idle thread looks at the clock
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 30.0  # seconds between attempts at a store that fails
_EXPIRE_EVERY = 3600.0  # seconds
_SINGLY = 3  # failures of a batch after which its rows are tried one by one

Lines = Sequence[tuple[int, bytes]]
OnReject = Callable[[int, str, str], None]
"""Called with line, reason and detail."""


class Sink(Protocol):
    """What is asked of the store (`palate.store.database.Store`)."""

    def add(self, arrivals: Sequence[Arrival], source_name: str) -> object:
        """Add them, durably; what is known already adds nothing."""

    def expire(self, days: float) -> int:
        """Erase content that is older."""

    def close(self) -> None:
        """Give everything back."""


class Storing(Thread):
    """Stores rows in their order, for as long as it takes; `failure` is why it cannot just now."""

    def __init__(
        self,
        journal: Journal,
        open_sink: Callable[[], Sink],
        source: str,
        retention_days: float | None,
        on_reject: OnReject,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(name="storing", daemon=True)
        self._journal, self._open, self._source = journal, open_sink, source
        self._retention, self._reject = retention_days, on_reject
        self._say, self._changed = say, changed
        self._sink: Sink | None = None
        self._ending = Event()
        self._expired = -_EXPIRE_EVERY
        self._failures = 0
        self._listed = 0  # the last line that was rejected
        self.counts: Counter[str] = Counter()
        self.failure: str | None = None

    def end(self, limit: float) -> None:
        """Store what is left, for at most `limit` seconds or until the store fails."""
        self._ending.set()
        self._journal.wake()
        self.join(limit)

    def run(self) -> None:
        """Until `end`, and then until nothing waits or the store fails."""
        while True:
            good = self._step()
            if self._ending.is_set() and (not good or not self._journal.waiting):
                break
            if not good:
                delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(self._failures, 10))
                self._ending.wait(delay)
        if self._sink is not None:
            self._sink.close()

    def _step(self) -> bool:
        """Store what comes next, if anything does; False if that fails."""
        try:
            lines = self._journal.take(BATCH, _IDLE)
            good = self._store(lines) if lines else self._expire()
        except OSError as error:  # the spill folder itself cannot be read
            self._failed(error)
            return False
        if good:
            self._worked()
        return good

    def _store(self, lines: Lines) -> bool:
        """Store these lines and settle them; False if the store fails."""
        read = [(number, self._read(number, text)) for number, text in lines]
        rows = [(number, arrivals) for number, arrivals in read if arrivals]
        error = self._add([one for _, arrivals in rows for one in arrivals])
        stored = len(rows)
        if error is not None:
            self._failed(error)
            found = self._store_singly(rows) if self._failures >= _SINGLY else None
            if found is None:
                return False
            stored = found
        self._journal.settle(lines)
        self.counts["stored"] += stored
        self._changed()
        return self._expire()

    def _store_singly(self, rows: Sequence[tuple[int, list[Arrival]]]) -> int | None:
        """Store all but those that a working store refuses; how many, or None if it does not work.

        A row is given up only if it is refused twice, and in between another one is taken: until
        then it may as well be the store that is down. The longer that lasts, the more are tried.
        """
        refused: list[tuple[int, list[Arrival]]] = []
        good: list[Arrival] | None = None
        for number, arrivals in rows:
            if self._add(arrivals) is None:
                good = arrivals
            elif good is None and len(refused) >= self._failures:
                return None
            else:
                refused.append((number, arrivals))
        if good is None:
            return None
        still = [number for number, arrivals in refused if self._add(arrivals) is not None]
        if still and self._add(good) is not None:  # known already: it adds nothing
            return None
        for number in still:
            self._reject(number, "unstorable", "the store refused it, and took others")
        return len(rows) - len(still)

    def _read(self, number: int, text: bytes) -> list[Arrival]:
        try:
            return arrivals_of(json.loads(text), self._source, number)
        except RecordError as error:  # an older Palate, which wrote it, could read it
            reason, detail = error.reason, str(error)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason, detail = "broken-line", f"no row that can be read: {type(error).__name__}"
        if number > self._listed:  # and not again with each attempt
            self._listed = number
            self._reject(number, reason, detail)
        return []

    def _add(self, arrivals: Sequence[Arrival]) -> Exception | None:
        """Add them in one transaction; what went wrong, if something did."""
        try:
            if arrivals:
                self._opened().add(arrivals, self._source)
        except Exception as error:  # noqa: BLE001 - whatever it is, the captures wait for its end
            return error
        return None

    def _expire(self) -> bool:
        """Let the store forget what is too old, once in a while; False if the store fails."""
        if self._retention is None or monotonic() - self._expired < _EXPIRE_EVERY:
            return True
        try:
            erased = self._opened().expire(self._retention)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
            return False
        self._expired = monotonic()
        if erased:
            self._say(f"erased {erased} interactions older than {self._retention:g} days")
        return True

    def _opened(self) -> Sink:
        if self._sink is None:
            self._sink = self._open()
        return self._sink

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self.failure is None:
            # A driver's own message can quote the values that it was given: users' words.
            plain = isinstance(error, ValueError | OSError)
            said = " ".join(str(error).split())[:200] if plain else ""
            self.failure = said or type(error).__name__
            self._say(f"the store does not take captures, which wait on disk: {self.failure}")
            self._changed()

    def _worked(self) -> None:
        self._failures = 0
        if self.failure is not None:
            self.failure = None
            self._say(f"the store takes captures again; {self._journal.waiting} wait")
            self._changed()
