"""In a real browser: a run is watched from its first line to its end, and runs are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.ui.conftest import serving, until
from tests.ui.runs.folders import answer, begin, dpo_lines, finish, heldout_line, train_line, write


def legend(page: Any, key: str) -> str:
    found = page.locator(f'#charts output[data-key="{key}"]')
    return found.first.text_content() if found.count() else ""


def leave(page: Any) -> None:
    """Close the streams: a site that ends under them is a network error to the browser."""
    page.goto("about:blank")


def test_a_run_is_watched_from_start_to_end(tmp_path: Path, browser_page: Any) -> None:
    folder = begin(tmp_path / "runs")
    with serving(tmp_path) as site:
        page = browser_page
        page.goto(site.link)
        page.goto(f"{site.url}/runs/desk")
        assert "No step has been recorded" in page.locator("#charts").text_content()
        page.wait_for_timeout(1000)  # the first event, which has no steps to tell of
        assert "no step yet" in page.locator("#progress").text_content()
        assert "No step has been recorded" in page.locator("#charts").text_content()
        write(folder, heldout_line(0, loss=0.7), *dpo_lines(1, 1))
        until(lambda: legend(page, "train.loss") == "0.69", "the first loss")
        for step in (2, 3):
            write(folder, *dpo_lines(step, step))
            wanted = f"{0.7 - 0.01 * step:.2f}"
            until(lambda wanted=wanted: legend(page, "train.loss") == wanted, f"the loss {wanted}")
        write(folder, *dpo_lines(4, 12), heldout_line(12, loss=0.5))
        until(lambda: legend(page, "heldout.loss") == "0.5", "the second measurement")
        until(lambda: "12 of 20" in page.locator("#progress").text_content(), "the progress")
        until(lambda: "Held-out loss fell" in page.locator("#findings").text_content(), "a finding")
        write(folder, answer("before", "one two three"), file="samples.jsonl")
        until(lambda: "one two three" in page.locator("#samples").text_content(), "the samples")
        write(folder, answer("after", "one 2 three"), file="samples.jsonl")
        finish(folder)
        until(lambda: page.locator("#charts").get_attribute("data-state") == "complete", "the end")
        until(lambda: "complete" in page.locator("#progress").text_content(), "the end in words")
        until(lambda: page.locator(".answer").count() == 2, "both answers")
        page.get_by_role("button", name="Mark differing words").click()
        assert page.locator("#samples del").all_text_contents() == ["two"]
        assert page.locator("#samples ins").all_text_contents() == ["2"]
        leave(page)


def test_lines_are_hidden_and_a_part_is_shown_by_keyboard(
    tmp_path: Path, browser_page: Any
) -> None:
    folder = begin(tmp_path / "runs", steps=3000)
    write(folder, *(train_line(step, loss=1.0 + (step == 1234)) for step in range(1, 3001)))
    with serving(tmp_path) as site:
        page = browser_page
        page.goto(site.link)
        page.goto(f"{site.url}/runs/desk")
        page.wait_for_selector("#charts .plot canvas")
        button = page.locator('[data-chart="loss"] button.series').first
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "false"
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        label = page.locator('[data-chart="loss"] .plot')
        assert "at step 3000" in label.get_attribute("aria-label")
        page.get_by_label("Steps from").fill("1200")
        page.get_by_label("to", exact=True).fill("1234")
        page.keyboard.press("Enter")
        until(lambda: "at step 1235" in label.get_attribute("aria-label"), "the part")
        page.get_by_role("button", name="Whole run").click()
        until(lambda: "at step 3000" in label.get_attribute("aria-label"), "the whole")
        leave(page)


def test_runs_are_laid_over_each_other(tmp_path: Path, browser_page: Any) -> None:
    for name, loss in (("a", 0.5), ("b", 0.25)):
        write(begin(tmp_path / "runs", name), train_line(1, loss=1.0), train_line(2, loss=loss))
    with serving(tmp_path) as site:
        page = browser_page
        page.goto(site.link)
        page.goto(f"{site.url}/runs")
        page.get_by_label("Compare a").check()
        page.get_by_label("Compare b").check()
        page.get_by_role("button", name="Overlay charts").click()
        until(lambda: (legend(page, "a"), legend(page, "b")) == ("0.5", "0.25"), "both losses")
        write(tmp_path / "runs" / "b", train_line(3, loss=0.125))
        until(lambda: legend(page, "b") == "0.125", "the new loss")
        strokes = page.locator("#legend line").evaluate_all(
            "all => all.map(l => ['stroke', 'stroke-dasharray'].map(name => l.getAttribute(name)))"
        )
        assert strokes[0][0] != strokes[1][0]
        assert strokes[0][1] != strokes[1][1], "told apart without colours too"
        leave(page)


def test_375_pixels_without_scrolling_sideways(tmp_path: Path, browser_page: Any) -> None:
    name = "a-run-with-a-very-long-name-" + "x" * 60
    folder = begin(tmp_path / "runs", name)
    write(folder, heldout_line(0, loss=0.7), *dpo_lines(1, 5))
    write(folder, answer("before", "w" * 300), file="samples.jsonl")
    with serving(tmp_path) as site:
        page = browser_page
        page.set_viewport_size({"width": 375, "height": 800})
        page.goto(site.link)
        own = f"/runs/{name}"
        for path in ("/runs", own, f"{own}/samples", f"/runs/compare?run={name}"):
            page.goto(f"{site.url}{path}")
            if "samples" not in path and path != "/runs":
                page.wait_for_selector("#charts .plot canvas")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 375, (path, width)
        leave(page)
