"""In a real browser: from a search to an interaction to its tokens, and narrow pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import save_tiny
from tests.ui.conftest import Open, serving
from tests.ui.data.test_routes import fill

MINUTES = 5 * 60 * 1000  # milliseconds for a tokenizer on a busy machine
# One token a byte: "<|start|>user\nPlain?<|end|>\n<|start|>assistant\n".
PROMPT = (1 + 4 + 1 + 6 + 1 + 1) + (1 + 9 + 1)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Open]:
    fill(tmp_path)
    with serving(tmp_path) as running:
        yield running


@pytest.mark.slow
def test_from_words_to_tokens(data: Open, browser_page: Any, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "tiny")
    page = browser_page
    page.goto(data.link)
    page.goto(f"{data.url}/data/search")
    page.get_by_label("Words").fill("plain")
    page.keyboard.press("Enter")
    assert page.text_content("mark") == "Plain"
    page.click("a.hit")
    page.wait_for_selector("#trace")
    page.get_by_label("or a model").fill(str(model))
    assert page.input_value("#t-run") == "", "a model takes the place of the run"
    page.click("#trace button")
    page.wait_for_selector(".tokens", timeout=MINUTES)
    # The edit made a pair, of which each byte is a token.
    parts = page.locator(".trace h3").all_text_contents()
    assert [part.split()[0] for part in parts] == ["prompt", "chosen", "rejected"]
    trained = page.locator(".tokens").nth(1).locator(".token.trained").all_text_contents()
    assert trained == [*"Plainer.", "<|end|>"]
    prompt = page.locator(".tokens").nth(0).locator(".token")
    assert set(prompt.evaluate_all("all => all.map(one => one.className.split(' ')[1])")) == {
        "prompt"
    }
    first = page.locator(".tokens .token.trained").nth(0)
    assert f"position {PROMPT}," in first.get_attribute("title")
    assert "⟦Plainer.<|end|>⟧" in page.locator(".trace .visually-hidden").all_text_contents()


@pytest.mark.slow
def test_long_words_and_scripts_break_no_page(data: Open, browser_page: Any) -> None:
    page = browser_page
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto(data.link)
    (evil,) = data.client.get("/data/search.json", params={"words": "alert"}).json()["rows"]
    for path in ("/data", "/data/search", "/data/lint", f"/data/i/{evil['id']}"):
        page.goto(f"{data.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
