"""The labelling page over HTTP: items, votes, changes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.ui.conftest import Open, asked, fill, serving, until

from palate.records import Arrival, Message
from palate.store.database import Store, StoreError
from palate.store.erasing import erase
from palate.store.reading import find, stored
from palate.store.voting import words
from palate.ui.label import queue as queue_module
from palate.ui.label import routes
from palate.ui.label.routes import queue_of


@pytest.fixture
def ready(site: Open) -> Open:
    assert queue_of(site.site).ready(120)
    return site


def page(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/label.json", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def send(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(client: httpx.Client, path: str, **body: Any) -> tuple[int, str]:
    answer = client.post(path, json=body)
    return answer.status_code, answer.json()["error"]


def test_an_item_hides_who_wrote_it_until_the_vote(ready: Open) -> None:
    data = page(ready.client)
    item = data["item"]
    assert (item["kind"], item["round"], item["said"]) == ("pair", 0, None)
    assert item["turns"][0]["role"] == "user"
    assert {answer["text"][:3] for answer in item["answers"]} == {"Yes", "No,"}
    assert "model-" not in ready.client.get("/label.json").text
    assert data["progress"] == {"mine": 0, "total": 12, "left": 12, "reading": False}
    answer = send(ready.client, "/label/vote", item=item["item"], say="clearly-second", note="why")
    (said,) = words(ready.site.store)
    assert (said.annotator, said.strength, said.comment) == ("owner", 1.0, "why")
    # Second of those shown: the answer whose text the page had on the right.
    example = find(ready.site.store, said.interaction).example
    texts = [example.completions[place].text for place in said.shown]
    assert texts == [one["text"] for one in item["answers"]]
    assert (said.choice, said.over) == (said.shown[1], said.shown[0])
    kept = answer["kept"]
    assert kept["models"] == [example.completions[place].source for place in said.shown]
    assert kept["lengths"] == [len(text.split()) for text in texts]
    assert (kept["say"], kept["note"], kept["about"]) == (
        "clearly-second",
        "why",
        item["turns"][0]["content"],
    )
    assert answer["progress"]["left"] == 11
    again = page(ready.client)
    assert again["item"]["item"] != item["item"]
    assert [one["item"] for one in again["last"]] == [item["item"]]


@pytest.mark.parametrize(
    ("say", "better", "strength"),
    [
        ("clearly-first", 0, 1.0),
        ("slightly-first", 0, 0.75),
        ("tie", None, None),
        ("slightly-second", 1, 0.75),
        ("clearly-second", 1, 1.0),
        ("both-bad", None, None),
    ],
)
def test_each_step_of_the_scale(ready: Open, say: str, better: int | None, strength: Any) -> None:
    item = page(ready.client)["item"]
    send(ready.client, "/label/vote", item=item["item"], round=0, say=say)
    (said,) = words(ready.site.store)
    if better is not None:
        assert said.choice == said.shown[better]
    assert said.kind == ("tie" if say == "tie" else "vote")
    assert (said.choice is None) == (say == "both-bad")
    assert said.strength == strength
    opened = page(ready.client, item=item["item"], round=0)["item"]
    assert opened["said"] == {"say": say, "note": "", "edit": None}
    assert opened["answers"] == item["answers"], "in the same order"


def test_the_order_is_shuffled_and_stays(ready: Open) -> None:
    orders = set()
    for who in ("ann", "eve", "bob", "joe", "kim", "lee"):
        client = ready.annotator(who)
        item = page(client)["item"]
        assert page(client)["item"] == item
        orders.add(item["answers"][0]["text"][:3])
    assert orders == {"Yes", "No,"}


def test_another_vote_undo_and_an_edit(ready: Open) -> None:
    client = ready.annotator("ann")
    item = page(client)["item"]
    key = item["item"]
    send(client, "/label/vote", item=key, say="tie")
    send(client, "/label/vote", item=key, say="slightly-first", edit="Better words.")
    (said,) = words(ready.site.store)
    assert (said.edit, said.choice) == ("Better words.", said.shown[0])
    signals = find(ready.site.store, said.interaction).signals
    assert sorted(one.kind for one in signals) == ["edit", "vote"]
    edit = next(one for one in signals if one.kind == "edit")
    assert (edit.edit, edit.by) == ((Message("assistant", "Better words."),), "ann")
    undone = send(client, "/label/undo")
    assert undone["undone"]["said"] == {
        "say": "slightly-first",
        "note": "",
        "edit": "Better words.",
    }
    assert (undone["undone"]["item"], undone["progress"]["left"]) == (key, 12)
    assert find(ready.site.store, said.interaction).signals == ()
    assert page(client)["item"]["item"] == key
    assert send(client, "/label/undo")["undone"] is None
    assert send(client, "/label/undo", item=key)["undone"] is None
    unchanged = item["answers"][0]["text"]
    send(client, "/label/vote", item=key, say="clearly-first", edit=f" {unchanged}\n")
    assert words(ready.site.store)[0].edit is None, "nothing was changed"


def test_undo_names_an_older_word(ready: Open) -> None:
    keys = []
    for _ in range(3):
        keys.append(page(ready.client)["item"]["item"])
        send(ready.client, "/label/vote", item=keys[-1], say="tie")
    assert send(ready.client, "/label/undo", item=keys[0])["undone"]["item"] == keys[0]
    assert [one["item"] for one in page(ready.client)["last"]] == [keys[2], keys[1]]


def test_thumbs_skips_and_flags(ready: Open) -> None:
    single = page(ready.client, show="single")
    assert (single["show"], single["progress"]["total"]) == ("single", 6)
    assert len(single["item"]["answers"]) == 1
    send(ready.client, "/label/vote", item=single["item"]["item"], say="down")
    second = page(ready.client, show="single")["item"]["item"]
    answer = send(ready.client, "/label/skip", item=second)
    assert (answer["kept"]["say"], answer["progress"]["left"]) == ("skip", 4)
    third = page(ready.client, show="single")["item"]["item"]
    send(ready.client, "/label/flag", item=third, note="names a person")
    assert [(one.kind, one.label, one.comment) for one in words(ready.site.store)] == [
        ("thumb", False, None),
        ("skip", None, None),
        ("flag", None, "names a person"),
    ]
    assert page(ready.client, show="single")["progress"]["mine"] == 1


def test_the_next_item_can_be_fetched_ahead(ready: Open) -> None:
    first = page(ready.client)["item"]["item"]
    second = page(ready.client, held=first)["item"]["item"]
    third = page(ready.client, held=[first, second])["item"]["item"]
    assert len({first, second, third}) == 3
    other = page(ready.annotator("ann"))["item"]["item"]
    assert other not in {first, second, third}


def test_what_cannot_be_said(ready: Open) -> None:
    item = page(ready.client)["item"]["item"]
    single = page(ready.client, show="single")["item"]["item"]
    absent = f"{'0' * 32}.0.1"
    beyond = item.rpartition(".")[0] + ".7"
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (400, "names no item", {"say": "tie"}),
        (400, "names no item", {"item": "../../etc", "say": "tie"}),
        (400, "`say` is a text", {"item": item}),
        (400, "nothing to say of this item", {"item": item, "say": "up"}),
        (400, "nothing to say of this item", {"item": single, "say": "tie"}),
        (400, "there is no round 2", {"item": item, "say": "tie", "round": 2}),
        (400, "goes with a vote for the answer", {"item": item, "say": "both-bad", "edit": "x"}),
        (400, "an edit has words", {"item": item, "say": "clearly-first", "edit": " "}),
        (400, "at most 20,000 letters", {"item": item, "say": "tie", "note": "x" * 20_001}),
        (400, "not in the store any more", {"item": absent, "say": "tie"}),
        (400, "names an answer that is not there", {"item": beyond, "say": "tie"}),
    ]
    for status, why, body in cases:
        got, said = refused(ready.client, "/label/vote", **body)
        assert (got, why in said) == (status, True), (body, got, said)
    assert ready.client.get("/label.json?show=all").status_code == 400
    assert ready.client.get(f"/label.json?item={absent}").status_code == 404
    assert words(ready.site.store) == []


def test_a_conversation_that_was_deleted_meanwhile(ready: Open) -> None:
    item = page(ready.client)["item"]["item"]
    erase(ready.site.store, [item.partition(".")[0]])
    status, why = refused(ready.client, "/label/vote", item=item, say="tie")
    assert (status, "not in the store any more" in why) == (400, True)
    assert page(ready.client)["item"]["item"] != item
    # One that is deleted while the queue holds it is passed over too.
    for one in list(stored(ready.site.store))[:8]:
        erase(ready.site.store, [one.id])
    assert page(ready.annotator("ann"))["item"] is not None


def test_the_page_shows_what_its_twin_says_as_text(tmp_path: Path) -> None:
    guidelines = tmp_path / "rules.md"
    guidelines.write_text("# Rules\n- no <b>markup</b>\n\n<script>alert(1)</script>\n")
    evil = "<img src=x onerror=alert(1)> As Qwen, I agree."
    example = asked("<b>Which?</b>", evil, "Plain.", system="You are <i>kind</i>.")
    with Store.open(tmp_path / "palate.db") as store:
        store.add([Arrival(example, ("e:1",))], "tests")
    with serving(tmp_path, guidelines=guidelines) as running:
        assert queue_of(running.site).ready(120)
        html = running.client.get("/label").text
        data = page(running.client)
        for markup in ("<img src=x", "<b>", "<i>", "<script>alert"):
            assert markup not in html
        assert "&lt;img src=x onerror=alert(1)&gt; As ▒▒▒, I agree." in html
        shown = {answer["text"]: answer["whole"] for answer in data["item"]["answers"]}
        assert shown == {
            "<img src=x onerror=alert(1)> As ▒▒▒, I agree.": evil,
            "Plain.": None,
        }
        assert data["guidelines"] == [
            {"kind": "heading", "text": "Rules"},
            {"kind": "list", "points": ["no <b>markup</b>"]},
            {"kind": "text", "text": "<script>alert(1)</script>"},
        ]


def test_empty_stores_and_those_that_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.ui.label import queue

    monkeypatch.setattr(queue, "_LOOK", 0.05)
    with serving(tmp_path) as running:
        assert queue_of(running.site).ready(120)
        empty = page(running.client)
        assert (empty["item"], empty["progress"]["total"], empty["last"]) == (None, 0, [])
        assert running.client.get("/label").status_code == 200
        running.site.store.add([Arrival(asked("New?", "x", "y"), ("n:1",))], "tests")
        assert until(lambda: page(running.client)["item"], "the new pair")


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Open]:
    fill(tmp_path / "palate.db", pairs=40, singles=0)
    with serving(tmp_path, overlap=0.25) as running:
        assert queue_of(running.site).ready(120)
        yield running


def test_twenty_annotators_over_http_lose_and_double_nothing(many: Open) -> None:
    queue = queue_of(many.site)
    acknowledged: list[tuple[str, str]] = []

    def work(who: str) -> None:
        client = many.annotator(who)
        while (item := page(client)["item"]) is not None:
            send(client, "/label/vote", item=item["item"], round=item["round"], say="tie")
            acknowledged.append((who, item["item"]))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, [f"annotator {n}" for n in range(20)]))
    kept = [(one.annotator, f"{one.interaction}.0.1") for one in words(many.site.store)]
    assert sorted(kept) == sorted(acknowledged)
    counted = {key: sum(key == one for _, one in kept) for _, key in kept}
    assert len(counted) == 40
    assert counted == {key: queue.wanted(key) for key in counted}


def test_nothing_is_left_only_once_the_store_has_been_read(
    ready: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading ends while the page is made: no item was known, so more may come."""
    queue = queue_of(ready.site)
    queue.reading = True

    def late(*_: Any) -> None:
        queue.reading = False

    monkeypatch.setattr(queue, "next", late)
    told = page(ready.client)
    assert (told["item"], told["progress"]["reading"]) == (None, True)


def test_behind_a_store_that_is_locked_a_vote_is_said_not_to_be_kept(
    ready: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_PATIENCE", 0.05)
    item = page(ready.client)["item"]["item"]
    with queue_of(ready.site).one_writer:  # another thread waits for another program
        status, why = refused(ready.client, "/label/vote", item=item, say="tie")
    assert (status, why.startswith("another program is writing")) == (400, True)
    assert words(ready.site.store) == []
    send(ready.client, "/label/vote", item=item, say="tie")
    assert len(words(ready.site.store)) == 1


def test_a_store_that_fails_for_a_moment_loses_no_item(
    ready: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that could not be read is not one that was deleted."""

    def fails(*_: Any) -> dict[str, Any]:
        raise StoreError("the store palate.db failed: disk I/O error")

    before = page(ready.client)
    with monkeypatch.context() as patched:
        patched.setattr(routes, "shown_item", fails)
        answer = ready.client.get("/label.json")
        assert (answer.status_code, "disk I/O error" in answer.text) == (400, True)
        key = {"item": before["item"]["item"], "round": 0}
        assert ready.client.get("/label.json", params=key).status_code == 400
    after = page(ready.client)
    assert after["item"]["item"] == before["item"]["item"]
    assert after["progress"]["left"] == before["progress"]["left"]
