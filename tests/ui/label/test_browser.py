"""The labelling page as somebody uses it, in a real browser: by keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.ui.conftest import Open, fill, serving, until

from palate.store.voting import words
from palate.ui.label.routes import queue_of

pytestmark = pytest.mark.slow


@pytest.fixture
def label(site: Open, browser_page: Any) -> Any:
    assert queue_of(site.site).ready(120)
    browser_page.goto(site.link)
    browser_page.goto(f"{site.url}/label")
    browser_page.wait_for_selector("#answer-1")
    return browser_page


def said(site: Open) -> list[str]:
    return [one.kind for one in words(site.site.store)]


def kept(site: Open, count: int) -> None:
    until(lambda: len(said(site)) == count, f"{count} words in the store")


def listed(label: Any, count: int) -> None:
    until(lambda: label.locator("#last li").count() == count, "the acknowledgement")


def another(label: Any, question: str) -> None:
    """Wait for the item after that; the site's policy forbids playwright's own waiting."""
    until(lambda: label.inner_text("#talk") != question, "the next item")


def test_voting_by_keyboard(site: Open, label: Any) -> None:
    seen = set()
    for count, key in enumerate(["1", "2", "3", "4", "5", "b", " "], 1):
        label.wait_for_selector("#answer-1")
        question = label.inner_text("#talk")
        assert question not in seen
        seen.add(question)
        label.keyboard.press(key)
        kept(site, count)
        listed(label, count)
        another(label, question)
    assert said(site) == ["vote", "vote", "tie", "vote", "vote", "vote", "skip"]
    found = words(site.site.store)
    assert [one.strength for one in found] == [1.0, 0.75, None, 0.75, 1.0, None, None]
    assert [one.choice == one.shown[0] for one in found[:2]] == [True, True]
    assert [one.choice == one.shown[1] for one in found[3:5]] == [True, True]
    assert "Saved" in label.inner_text("#state")
    assert "model-" in label.inner_text("#last")


def test_undo_edit_note_and_keys_off_while_typing(site: Open, label: Any) -> None:
    question = label.inner_text("#talk")
    label.keyboard.press("1")
    kept(site, 1)
    label.keyboard.press("z")
    kept(site, 0)
    until(lambda: label.inner_text("#talk") == question, "the item again")
    label.keyboard.press("n")
    label.keyboard.type("5 bzf?")
    assert said(site) == [], "keys belong to the note"
    label.keyboard.press("Escape")
    label.keyboard.press("e")
    label.keyboard.press("5")
    assert label.evaluate("document.activeElement.id") == "edit-text"
    right = label.inner_text("#answer-1 .text")
    assert label.input_value("#edit-text") == right
    label.keyboard.press("Control+a")
    label.keyboard.type("1 much better")
    label.keyboard.press("Control+Enter")
    kept(site, 1)
    (word,) = words(site.site.store)
    assert (word.edit, word.comment, word.choice) == ("1 much better", "5 bzf?", word.shown[1])
    # Escape leaves an edit, and nothing is said.
    another(label, question)
    label.keyboard.press("e")
    label.keyboard.press("1")
    label.keyboard.press("Escape")
    assert label.is_hidden("#edit-box")
    label.keyboard.press("d")
    assert label.locator("#answers del").count() > 0
    assert said(site) == ["vote"]


def test_a_vote_that_does_not_arrive_stays_and_is_sent_again(site: Open, label: Any) -> None:
    label.route("**/label/vote", lambda route: route.abort())
    label.keyboard.press("1")
    label.wait_for_selector("#unsent:not([hidden])")
    assert "Saved" not in label.inner_text("#state")
    assert said(site) == []
    label.unroute("**/label/vote")
    label.click("#again")
    kept(site, 1)
    label.wait_for_selector("#unsent", state="hidden")
    label.problems.clear()  # the browser's own word on the request that was cut off


def test_undo_takes_back_the_vote_that_did_not_arrive_and_no_other(site: Open, label: Any) -> None:
    first = label.inner_text("#talk")
    label.keyboard.press("1")
    kept(site, 1)
    another(label, first)
    question = label.inner_text("#talk")
    label.route("**/label/vote", lambda route: route.abort())
    label.keyboard.press("3")
    label.wait_for_selector("#unsent:not([hidden])")
    another(label, question)
    label.unroute("**/label/vote")
    label.keyboard.press("z")
    label.wait_for_selector("#unsent", state="hidden")
    until(lambda: label.inner_text("#talk") == question, "the item again")
    assert said(site) == ["vote"], "what was kept before stays"
    label.keyboard.press("z")
    kept(site, 0)
    until(lambda: label.inner_text("#talk") == first, "the one before it")
    label.problems.clear()  # the browser's own word on the request that was cut off


def test_a_vote_of_a_page_that_outlived_the_server_waits_for_the_new_link(
    tmp_path: Path, browser_page: Any
) -> None:
    """Another token, drawn at a start, ends the session and the form token of an open page."""
    fill(tmp_path / "palate.db")
    with serving(tmp_path, token="first-token") as before:
        assert queue_of(before.site).ready(120)
        port = before.site.settings.port
        browser_page.goto(before.link)
        browser_page.goto(f"{before.url}/label")
        browser_page.wait_for_selector("#answer-1")
    with serving(tmp_path, token="other-token", port=port) as after:
        browser_page.keyboard.press("1")
        browser_page.wait_for_selector("#unsent:not([hidden])")
        assert "in another tab" in browser_page.inner_text("#unsent-why")
        other = browser_page.context.new_page()
        # Somebody else's link does not make it that one's vote.
        other.goto(after.site.people.link(after.url, "ann"))
        browser_page.click("#again")
        until(lambda: "load it again" in browser_page.inner_text("#unsent-why"), "the refusal")
        assert said(after) == []
        other.goto(after.link)
        browser_page.click("#again")
        kept(after, 1)
        assert words(after.site.store)[0].annotator == "owner"
        browser_page.wait_for_selector("#unsent", state="hidden")
    browser_page.problems.clear()  # the browser's own word on what was refused


def test_a_word_is_changed_from_the_list(site: Open, label: Any) -> None:
    label.keyboard.press("1")
    kept(site, 1)
    label.wait_for_selector("#last button")
    label.click("#last button")
    label.wait_for_selector("#leave:not([hidden])")
    assert label.get_attribute("#clearly-first", "aria-pressed") == "true"
    label.keyboard.press("3")
    until(lambda: said(site) == ["tie"], "the change")


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_stands_out_at_the_side(site: Open, label: Any, width: int) -> None:
    label.set_viewport_size({"width": width, "height": 800})
    for key in ("?", "Escape", "n", "Escape", "e"):
        label.keyboard.press(key)
        wide = label.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, key
