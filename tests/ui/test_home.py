"""The first page, invitations, the API's description, and how errors look."""

from __future__ import annotations

from typing import Any

from tests.ui.conftest import Open, until


def test_the_page_and_its_twin_tell_the_same(site: Open) -> None:
    facts = site.client.get("/index.json").json()
    assert facts["store"]["counts"] == {"interactions": 18, "erased": 0, "thumb": 1}
    assert "<strong>18</strong> interactions" in site.client.get("/").text


def test_the_api_lists_every_route_with_its_words(site: Open) -> None:
    told = site.client.get("/api.json").json()["routes"]
    assert {"GET /", "GET /api", "POST /invite"} <= {f"{r['method']} {r['path']}" for r in told}
    assert all(len(one["words"]) > 20 for one in told)


def test_names_that_cannot_be_are_refused(site: Open) -> None:
    for name in ("", " ", "judge/x", "a" * 41, "<b>", "é", site.site.settings.me):
        found = site.client.post("/invite", json={"name": name})
        assert found.status_code == 400, name
        assert "name" in found.json()["error"]


def test_what_is_not_there_is_a_page_and_json(site: Open) -> None:
    assert "There is nothing here" in site.client.get("/nowhere").text
    assert site.client.get("/nowhere.json").json() == {"error": "there is no such page"}
    assert site.client.post("/nowhere").status_code == 404
    assert site.client.post("/api").status_code == 405


def test_a_link_is_made_in_the_browser(site: Open, browser_page: Any) -> None:
    browser_page.goto(site.link)
    assert browser_page.url == f"{site.url}/"
    browser_page.get_by_label("Name").fill("ann")
    browser_page.keyboard.press("Enter")
    browser_page.wait_for_selector("#invite-link code")
    link = browser_page.text_content("#invite-link code")
    assert link == site.site.people.link(site.url, "ann", "/label")


def test_the_first_page_says_where_each_part_stands(site: Open) -> None:
    def stands() -> Any:
        facts = site.client.get("/index.json").json()["areas"]
        found = {one["place"]: one["stands"] for one in facts}
        return found if "being read" not in found["/label"] else None

    found = until(stands, "the reading of the store")
    assert list(found) == ["/data", "/label", "/agreement", "/runs", "/arena"]
    # Twelve pairs; of six single answers one has a customer's thumb, which is not the owner's.
    assert found["/label"].startswith("12 pairs left")
    assert found["/runs"] == "no run yet"
    assert found["/agreement"] == "1 vote of 1 person, 0 disputed"  # the customer's thumb
