"""Items: what their keys say, where their answers stand, and that a copy goes with its origin."""

from __future__ import annotations

import pytest
from tests.store.arrivals import chat

from palate.store.database import Store
from palate.store.erasing import erase, erase_user
from palate.store.items import Item, across, example_of_item, home, parse, settle_home
from palate.store.reading import counts, find, stored_of
from palate.store.rows import short_hash

A, B = "a" * 32, "b" * 32


def test_a_key_is_read_back() -> None:
    items = [Item(A, (0,)), Item(A, (0, 2)), Item(A, (2, 0)), across(B, A)]
    assert [item.key for item in items] == [f"{A}.0", f"{A}.0.2", f"{A}.2.0", f"{A}+{B}"]
    assert [parse(item.key) for item in items] == items
    assert across(A, B) == across(B, A) == Item(A, (0, 1), B)


@pytest.mark.parametrize(
    "key", ["", A, f"{A}.", f"{A}.1.1", f"{A}.0.1.2", f"{B}+{A}", f"{A}+{A}", f"{A}.0\n", "../x.0"]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="names no item"):
        parse(key)


def asked_twice(store: Store) -> Item:
    rows = [
        chat("a?", "one", ids=("o:1",), user="ann", tags={"session_id": "s", "lang": "en"}),
        chat("a?", "other", ids=("o:2",), user="bob", tags={"session_id": "t", "lang": "en"}),
        chat("b?", "third", ids=("o:3",)),
        chat("b?", "x", "y", ids=("o:4",)),
    ]
    store.add(rows, "log")
    return across(find(store, "o:1").id, find(store, "o:2").id)


def test_answers_of_two_rows_become_one_interaction_once(store: Store) -> None:
    item = asked_twice(store)
    assert home(store, item) is None
    key = settle_home(store, item)
    assert key == settle_home(store, item) == home(store, item)
    # The id is the hash of the first name, which is that of the two in their order.
    first, second = sorted(find(store, name).id for name in ("o:1", "o:2"))
    assert key == short_hash(f"palate:pair/{first}/{second}") == item.stands
    (made,) = stored_of(store, [key])
    texts = [find(store, name).example.completions[0].text for name in ("o:1", "o:2")]
    in_order = texts if first == find(store, "o:1").id else texts[::-1]
    assert [answer.text for answer in made.example.completions] == in_order
    # No conversation: its answers would be taken for answers that the traffic gave again.
    assert (made.example.tags, made.user) == ({"lang": "en"}, None)
    assert counts(store)["interactions"] == 5


def test_only_answers_to_the_same_prompt_make_an_item(store: Store) -> None:
    asked_twice(store)
    one, third, two = (find(store, name).id for name in ("o:1", "o:3", "o:4"))
    for other in (third, two):
        with pytest.raises(ValueError, match="no pair of answers to the same prompt"):
            example_of_item(store, across(one, other))
    with pytest.raises(ValueError, match="names an answer that is not there"):
        example_of_item(store, Item(two, (0, 2)))
    with pytest.raises(ValueError, match="not in the store any more"):
        example_of_item(store, Item(A, (0, 1)))


@pytest.mark.parametrize("user", ["ann", "bob"])
def test_whoever_deletes_an_answer_deletes_its_copy(store: Store, user: str) -> None:
    item = asked_twice(store)
    key = settle_home(store, item)
    erased = erase_user(store, user)
    assert key in erased.interactions
    assert (len(erased.interactions), stored_of(store, [key])) == (2, [])
    assert counts(store) == {"interactions": 3, "erased": 2}
    with pytest.raises(ValueError, match="not in the store any more"):
        example_of_item(store, item)


def test_others_stay(store: Store) -> None:
    item = asked_twice(store)
    key = settle_home(store, item)
    erase(store, [find(store, "o:3").id, find(store, "o:4").id])
    assert [one.id for one in stored_of(store, [key])] == [key]
