"""The page of agreement over HTTP, and in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.agreement.worlds import World
from tests.ui.conftest import Open, serving


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Open]:
    """A site over the world's store."""
    with serving(tmp_path) as running:
        yield running


def test_a_store_without_votes_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        assert "There are no votes in this store yet" in site.client.get("/agreement").text
        facts = site.client.get("/agreement.json").json()
        assert (facts["annotators"], facts["queue"]["disputes"]) == ([], [])


def test_the_page_and_its_twin(world: World, site: Open) -> None:
    world.say("0 ann A", "0 bob B", "1 ann A - 1.0 <script>alert(1)</script>", "1 bob B")
    facts = site.client.get("/agreement.json").json()
    assert facts["questions"][0]["raw"]["value"] == 0
    assert facts["queue"]["count"] == 2
    shown = site.client.get("/agreement").text
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
    assert "People disagree" in shown
    # A vote that came meanwhile counts at once.
    world.say("2 ann A", "2 bob A")
    assert site.client.get("/agreement.json").json()["questions"][0]["shared"] == 3


def test_it_is_the_owners(site: Open) -> None:
    ann = site.annotator("ann")
    for path in ("/agreement", "/agreement.json", "/agreement/votes.csv"):
        assert ann.get(path).status_code == 403
    for path in ("/agreement/settle", "/agreement/unsettle"):
        assert ann.post(path, json={}).status_code == 403
    ann.close()


def test_settling_over_http(world: World, site: Open) -> None:
    world.say("0 ann A", "0 bob B", "1 ann A", "1 bob B")
    item = f"{world.id('pair-0')}.0.1"
    told = site.client.post("/agreement/settle", json={"item": item, "word": "first"}).json()
    assert told == {"item": item, "word": "first", "left": 1}
    assert site.client.get("/agreement.json").json()["counts"]["settled"] == 1
    assert ",owner,first," in site.client.get("/agreement/votes.csv").text
    # Within the same second, so that neither the number of events nor their time changes.
    again = site.client.post("/agreement/settle", json={"item": item, "word": "tie"})
    assert again.json()["left"] == 1
    assert ",owner,tie," in site.client.get("/agreement/votes.csv").text
    back = site.client.post("/agreement/unsettle", json={"item": item})
    assert back.json() == {"item": item, "left": 2}
    assert site.client.post("/agreement/unsettle", json={"item": item}).status_code == 404
    for wrong in ({}, {"item": "x"}, {"item": None, "word": "tie"}, {"item": [item]}):
        assert site.client.post("/agreement/settle", json=wrong).status_code == 404
    for word in ("", "up", None, ["tie"]):
        wrong = {"item": item, "word": word}
        assert site.client.post("/agreement/settle", json=wrong).status_code == 400


def test_the_queue_has_pages(world: World, site: Open) -> None:
    world.say(*(f"{n} {by} {word}" for n in range(11) for by, word in (("ann", "A"), ("bob", "B"))))
    first, second = (
        site.client.get("/agreement.json", params={"page": page}).json()["queue"] for page in (1, 2)
    )
    assert (first["pages"], len(first["disputes"]), len(second["disputes"])) == (2, 10, 1)
    assert not {i["item"] for i in first["disputes"]} & {i["item"] for i in second["disputes"]}
    for page, wanted in (("9", 2), ("0", 1), ("-1", 1), ("x", 1), ("²", 1), ("", 1)):
        found = site.client.get("/agreement.json", params={"page": page}).json()
        assert found["queue"]["page"] == wanted, page


def test_an_item_is_settled_in_the_browser(world: World, site: Open, browser_page: Any) -> None:
    world.say("0 ann A", "0 bob B")
    browser_page.goto(site.link)
    browser_page.goto(f"{site.url}/agreement")
    browser_page.get_by_role("button", name="B is better").click()
    browser_page.get_by_text("Settled: B is better.").wait_for()
    assert browser_page.text_content("#left") == "0"
    assert site.client.get("/agreement.json").json()["queue"]["count"] == 0
    browser_page.keyboard.press("Enter")  # the focus is on "Take it back"
    browser_page.get_by_role("button", name="B is better").wait_for()
    assert site.client.get("/agreement.json").json()["queue"]["count"] == 1
