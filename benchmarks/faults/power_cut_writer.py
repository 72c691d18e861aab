"""The program whose writes are recorded: everything that a store acknowledges, in a drawn order.

`python -m benchmarks.faults.power_cut_writer FOLDER NOTES SEED [SYNCHRONOUS]` works on
FOLDER/palate.db. After each committed transaction it appends the state that a reader finds to
NOTES/states.jsonl and then marks the recording (`state N`); after each call that came back it marks
what was done (`done …`), and of a deletion the words that must be gone (`gone …`).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from benchmarks.faults.disk import mark

from palate.records import Arrival, Signal
from palate.store import importing
from palate.store.database import Store
from palate.store.erasing import erase, erase_user, expire
from palate.store.items import Item
from palate.store.judging import Judgement, add_judgements, judgement_id
from palate.store.leasing import lease
from palate.store.schema import EVENT, INTERACTION, METADATA, NAME
from palate.store.voting import Word, keep, withdraw
from palate.web.capture.rows import arrivals_of

STEPS = 60
SOURCE = "capture:benchmark"
DB = "palate.db"


def state_of(store: Store) -> list[str]:
    """Every row of every table as a short hash, sorted: two equal lists are equal stores."""
    found: list[str] = []
    with store.reading() as connection:
        for table in METADATA.sorted_tables:
            rows = connection.execute(sa.select(table))
            found += [_short(json.dumps([table.name, *row], default=str)) for row in rows]
    return sorted(found)


def exchange(number: int, user: str, words: str, time: str = "2026-01-01T00:00:00") -> Any:
    """A row of a product's log: one question, one answer, both with a word of their own."""
    said = f"{token(number)} {words}"
    return {
        "request": {"model": "m", "messages": [{"role": "user", "content": f"What is {said}?"}]},
        "response": {
            "id": name(number),
            "object": "chat.completion",
            "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": said}},
                {"index": 1, "message": {"role": "assistant", "content": f"Not {said}"}},
            ],
        },
        "user": user,
        "time": time,
    }


def name(number: int) -> str:
    """The id of that exchange's answer, as a provider gives it."""
    return "chatcmpl-" + _short(f"id of {number}")


def token(number: int) -> str:
    """A word that stands in that exchange only."""
    return "tok" + _short(str(number))


def feedback(number: int, about: int, rating: str) -> Any:
    """A row of what a product's user said about an answer."""
    row = {"feedback": {"id": name(about), "rating": rating, "user": "rater"}}
    return row | {"feedback_id": f"fb-{number}", "time": "2026-01-02T00:00:00"}


class Writer:
    """One store, and what was done to it."""

    def __init__(self, folder: Path, notes: Path, seed: int) -> None:
        self.folder, self.notes = folder, notes
        self.rng = random.Random(seed)
        self.states = 0
        self.number = 0
        self.words: list[str] = []
        self.store = self.opened()

    def opened(self) -> Store:
        """The store, observed at each commit."""
        self.watch()
        store = Store.open(self.folder / DB)
        if not self.states:
            self.tell(store)
        return store

    def watch(self) -> None:
        """Let `Store.writing` tell what came of it; what is observed is not changed."""
        plain, tell = _WRITING, self.tell

        @contextmanager
        def writing(store: Store) -> Iterator[sa.Connection]:
            with plain(store) as connection:
                yield connection
            tell(store)

        Store.writing = writing  # type: ignore[method-assign]

    def tell(self, store: Store) -> None:
        """Note the state, and mark that it was acknowledged."""
        with (self.notes / "states.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(state_of(store)) + "\n")
        mark(f"state {self.states}")
        self.states += 1

    def run(self) -> None:
        """All steps, and the end."""
        self.capture()
        for _ in range(STEPS):
            does: Callable[[], None] = self.rng.choice(_STEPS).__get__(self)
            does()
            mark(f"done {does.__name__}")
        self.store.close()
        mark("done close")

    def arrivals(self, count: int) -> list[Arrival]:
        """Captured exchanges of some users, now and then a long one."""
        found: list[Arrival] = []
        for _ in range(count):
            self.number += 1
            length = self.rng.choice((5, 40, 40, 400, 4_000))
            row = exchange(self.number, f"user-{self.rng.randrange(6)}", "word " * length)
            found += arrivals_of(row, SOURCE, self.number)
        return found

    def capture(self) -> None:
        """A batch of the recorder's."""
        self.store.add(self.arrivals(self.rng.randint(1, 6)), SOURCE)

    def rate(self) -> None:
        """Feedback, half of it about an answer that has not come yet."""
        about = self.number + self.rng.randint(-5, 5)
        row = feedback(self.rng.randrange(10**6), max(1, about), self.rng.choice(("up", "down")))
        self.store.add(arrivals_of(row, SOURCE, 0), SOURCE)

    def load(self) -> None:
        """An import of several transactions, of which some rows are refused."""
        lines = []
        for _ in range(self.rng.randint(3, 20)):
            self.number += 1
            row = exchange(self.number, "imported", "word " * 20)
            lines.append("{broken" if self.rng.random() < 0.1 else json.dumps(row))
        path = self.notes / f"log-{self.number}.jsonl"
        path.write_text("\n".join([json.dumps(exchange(10**5 + self.number, "i", "")), *lines]))
        importing.import_paths(self.store, [str(path)])

    def vote(self) -> None:
        """A word of an annotator, a new one or another in its place."""
        place, choice = self.alive(), self.rng.randrange(2)
        word = Word("kim", place, (0, 1), "vote", choice, 1 - choice, 1.0, comment="because " * 9)
        keep(self.store, word)
        self.words.append(word.id)

    def take_back(self) -> None:
        """Undo one of the words."""
        if self.words:
            withdraw(self.store, self.rng.choice(self.words))

    def judge(self) -> None:
        """A judge's verdict."""
        place = self.alive()
        signal = Signal((), "vote", 0, over=1, by="judge/m", name="judge/m", strength=0.9)
        key = judgement_id(f"judge-{self.rng.randrange(3)}", place, (0, 1))
        add_judgements(self.store, [Judgement(key, place, signal)], "judge/m")

    def hold(self) -> None:
        """Give an annotator an item."""
        lease(self.store, "kim", [(Item(self.alive(), (0, 1)), 1)], 30)

    def delete(self) -> None:
        """Erase one interaction, one user, or what is old; their words must be gone."""
        kind = self.rng.randrange(6)
        if kind == 0:
            old = self.number = self.number + 1
            row = exchange(old, "old", "word", "2020-01-01T00:00:00")
            self.store.add(arrivals_of(row, SOURCE, old), SOURCE)
            erased = expire(self.store, 1_000)
        elif kind == 1:
            erased = erase_user(self.store, f"user-{self.rng.randrange(6)}")
        else:
            erased = erase(self.store, [self.alive()])
        if erased.interactions:
            mark("gone " + " ".join(self.tokens(erased.interactions)))

    def tokens(self, keys: tuple[str, ...]) -> list[str]:
        """The words that stood in these interactions, which their tombstones do not have."""
        with self.store.reading() as connection:
            called = sa.select(NAME.c.name).where(NAME.c.interaction.in_(keys))
            names = set(connection.execute(called).scalars())
        numbers = range(1, self.number + 1)
        return [token(one) for one in numbers if f"openai:{name(one)}" in names]

    def empty_the_log(self) -> None:
        """What a deletion does at its end, here at any time."""
        self.store.settle()

    def open_again(self) -> None:
        """SQLite writes its log into the file when the last connection closes."""
        self.store.close()
        self.store = self.opened()

    def alive(self) -> str:
        """An interaction that is not erased."""
        with self.store.reading() as connection:
            query = sa.select(INTERACTION.c.id).where(INTERACTION.c.erased.is_(None))
            keys = sorted(connection.execute(query).scalars())
        if keys:
            return str(self.rng.choice(keys))
        self.capture()
        return self.alive()


_WRITING = Store.writing
_STEPS: tuple[Any, ...] = (
    *(Writer.capture, Writer.capture, Writer.rate, Writer.rate, Writer.load),
    *(Writer.vote, Writer.vote, Writer.vote, Writer.take_back, Writer.judge, Writer.hold),
    *(Writer.delete, Writer.delete, Writer.empty_the_log, Writer.open_again),
)


def events(store: Store) -> int:
    """How many events there are."""
    with store.reading() as connection:
        count = sa.select(sa.func.count()).select_from(EVENT).where(EVENT.c.erased.is_(None))
        return int(connection.execute(count).scalar_one())


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def main(folder: str, notes: str, seed: str, synchronous: str = "") -> None:
    """Write; SYNCHRONOUS weakens SQLite, to see that the trials find it."""
    importing.BATCH = 7  # rows of a transaction: several for a small file
    if synchronous:

        def weaken(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA synchronous = {synchronous}")

        sa.event.listen(sa.Engine, "connect", weaken)
    Writer(Path(folder), Path(notes), int(seed)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
