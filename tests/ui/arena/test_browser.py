"""Chat and vote in a real browser: by keyboard, with text of models that stays text."""

from __future__ import annotations

from typing import Any

from tests.ui.arena.chat_stream import streams
from tests.ui.arena.conftest import Duels
from tests.ui.arena.test_arena import voted

BAD = "<img src=x onerror=document.title='owned'></script><script>document.title='owned'</script>"


def test_chat_and_vote_by_keyboard(duels: Duels, browser_page: Any) -> None:
    duels.new.plan = [streams(BAD)]
    page = browser_page
    page.goto(duels.site.link)
    page.goto(f"{duels.site.url}/arena")
    page.get_by_label("Your message").fill("hello")
    page.keyboard.press("Enter")
    page.get_by_text("Both have ended").wait_for()
    sides = [page.locator(f"#{side} [data-text]").text_content() for side in ("left", "right")]
    assert sorted(sides) == sorted([BAD, "I am old."])
    assert page.title() == "Arena · Palate"
    assert page.locator("#duel img, #duel script").count() == 0
    assert page.locator("#left [data-name]").is_hidden()
    assert page.get_by_label("Your message").is_disabled(), "first the vote"
    page.keyboard.press("5")
    page.get_by_text("Your vote is saved.").wait_for()
    assert page.locator("#right [data-name]").text_content() in {"new", "old"}
    assert "1 won, 0 tied, 0 lost" in page.locator("[data-tally]").text_content() or (
        "0 won, 0 tied, 1 lost" in page.locator("[data-tally]").text_content()
    )
    (one,) = voted(duels)
    assert one.signals[0].choice == 1
    page.keyboard.type("12345b more")  # in the field these are letters
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Enter")
    page.get_by_text("Both have ended").wait_for()
    assert duels.old.requests[-1]["messages"][-1]["content"] == "12345b more\n"
    assert duels.old.requests[-1]["messages"][1]["content"] == sides[1]
    page.keyboard.press("b")
    page.get_by_text("Neither answer is kept").wait_for()
    assert len(voted(duels)) == 2
    page.reload()
    page.get_by_text("hello", exact=True).wait_for()
    assert page.locator("#turns .turn").count() == 3, "what was settled, and what was asked"


def test_the_owner_chooses_who_meets(duels: Duels, browser_page: Any) -> None:
    page = browser_page
    page.goto(duels.site.link)
    page.goto(f"{duels.site.url}/arena/contenders")
    for name in ("first", "second"):
        page.locator(f"#{name}-known").select_option("")
        page.locator(f"#{name}").fill(f"{duels.new.url}#{name}")
    page.get_by_role("button", name="Use these two").click()
    page.get_by_text("these two are in the arena now").wait_for()
    page.locator("#second").fill("run:none")
    page.get_by_role("button", name="Use these two").click()
    page.locator("#second-problem").get_by_text("there is no run 'none'").wait_for()
    browser_page.problems[:] = [one for one in page.problems if "422" not in one]
