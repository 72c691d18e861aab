"""What a person labels: one answer, two answers of an interaction, or two of the same prompt.

An item's key says where its answers stand, so that a vote finds them whatever has been forgotten
meanwhile:

- ``ID.0`` is an answer of the interaction ID, ``ID.0.2`` two of its answers;
- ``ONE+OTHER`` are the answers of two interactions, one each, that were asked the same. The first
  word on them adds an interaction that holds both (`home`). It is named after the two, so that
  whoever deletes one of them deletes this copy too (`erasing`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from palate.records import CONVERSATION_TAGS, Arrival, Example, Provenance, digest
from palate.store.database import Store
from palate.store.reading import stored_of
from palate.store.rows import short_hash
from palate.store.schema import INTERACTION, NAME

SOURCE = "palate ui"
"""The source of what people do on the pages."""
JOINED = "palate:pair/"
"""How the name of an interaction begins that was made of two others: `palate:pair/ONE/OTHER`."""

_ID = "[0-9a-f]{8,64}"
_INSIDE = re.compile(rf"({_ID})\.(\d{{1,4}})(?:\.(\d{{1,4}}))?")
_ACROSS = re.compile(rf"({_ID})\+({_ID})")
# A joined interaction belongs to no conversation: traffic must not count its answers again.
_OWN_TAGS = {*CONVERSATION_TAGS, "trace_id"}


@dataclass(frozen=True, slots=True)
class Item:
    """One or two answers: `places` in `interaction`, or the only ones of it and of `other`."""

    interaction: str
    places: tuple[int, ...]
    other: str | None = None

    @property
    def key(self) -> str:
        """The item's name, which `parse` reads."""
        if self.other is not None:
            return f"{self.interaction}+{self.other}"
        return ".".join((self.interaction, *map(str, self.places)))

    @property
    def stands(self) -> str:
        """The id of the interaction that holds the answers, once there is a word on them.

        That of two interactions follows from its name; where the store has the same words under
        another id, `home` finds that.
        """
        return self.interaction if self.other is None else short_hash(self.name)

    @property
    def name(self) -> str:
        """What the interaction of both is called."""
        return f"{JOINED}{self.interaction}/{self.other}"


def across(one: str, other: str) -> Item:
    """The answers of two interactions, in an order of their own."""
    first, second = sorted((one, other))
    return Item(first, (0, 1), second)


def parse(key: str) -> Item:
    """The item of that key; `ValueError` for what is none."""
    if found := _INSIDE.fullmatch(key):
        places = tuple(int(place) for place in found.groups()[1:] if place is not None)
        if len(set(places)) == len(places):
            return Item(found[1], places)
    elif (found := _ACROSS.fullmatch(key)) and found[1] < found[2]:
        return Item(found[1], (0, 1), found[2])
    raise ValueError(f"'{key[:80]}' names no item: ask for the next one again")


def example_of_item(store: Store, item: Item) -> Example:
    """Prompt and answers of the item; its answers are those at `item.places`.

    Raises `ValueError` if they are not there (any more), or if the two interactions of an item
    were not asked the same.
    """
    keys = [item.interaction] if item.other is None else [item.interaction, item.other]
    found = stored_of(store, keys)
    if len(found) < len(keys):
        raise ValueError("this conversation is not in the store any more: go on with the next one")
    first = found[0].example
    if item.other is None:
        if max(item.places) >= len(first.completions):
            raise ValueError(f"the item {item.key} names an answer that is not there")
        return first
    second = found[1].example
    alike = first.prompt_key == second.prompt_key
    if not alike or len(first.completions) != 1 or len(second.completions) != 1:
        raise ValueError(f"the item {item.key} is no pair of answers to the same prompt")
    shared = dict(first.tags.items() & second.tags.items())
    tags = {name: tag for name, tag in shared.items() if name not in _OWN_TAGS}
    both = first.completions + second.completions
    where = Provenance(SOURCE, 0, hash=digest(item.name))
    return replace(first, completions=both, verdict=None, tags=tags, provenance=(where,))


def home(store: Store, item: Item) -> str | None:
    """The id of the interaction that holds the item's answers; None while none holds both."""
    if item.other is None:
        return item.interaction
    with store.reading() as connection:
        return connection.execute(
            sa.select(NAME.c.interaction).where(NAME.c.name == item.name)
        ).scalar()


def settle_home(store: Store, item: Item) -> str:
    """The same, which is made where it is not there; on the disk when this returns."""
    known = home(store, item)
    if known is None:
        store.add([Arrival(example_of_item(store, item), (item.name,))], SOURCE)
        known = home(store, item)
        assert known is not None, "it was added under this name"
    return known


def parents(name: str) -> tuple[str, str] | None:
    """The two interactions after which a joined one is named; None of another name."""
    one, slash, other = name.removeprefix(JOINED).partition("/")
    return (one, other) if name.startswith(JOINED) and slash else None


def joined_of(connection: sa.Connection, keys: Iterable[str]) -> list[str]:
    """The interactions that were made of one of these and another, and are not erased."""
    wanted = set(keys)
    query = (
        sa.select(NAME.c.name, NAME.c.interaction)
        .join(INTERACTION, INTERACTION.c.id == NAME.c.interaction)
        .where(_is_joined(), INTERACTION.c.erased.is_(None))
    )
    found = connection.execute(query).all()
    return sorted({key for name, key in found if wanted & {*(parents(name) or ())}})


def _is_joined() -> sa.ColumnElement[bool]:
    """Names that begin with `JOINED`, as a range, for which SQLite uses the key."""
    after = JOINED[:-1] + chr(ord(JOINED[-1]) + 1)
    return sa.and_(NAME.c.name >= JOINED, NAME.c.name < after, NAME.c.name.startswith(JOINED))
