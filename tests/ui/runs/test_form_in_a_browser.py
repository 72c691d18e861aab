"""The form under somebody's hands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.conftest import Open, serving
from tests.ui.runs.test_processes import World

from palate.ui import app
from palate.ui.app import Area
from palate.ui.pages import page
from palate.ui.runs import controls
from palate.ui.runs.processes import Processes


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def site(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The controls alone: a run's own page is its log here."""
    routes = [*controls.routes(), *page("/runs/{name}", controls.show_log)]
    monkeypatch.setattr(controls, "Processes", lambda runs: Processes(runs, world.command))
    monkeypatch.setattr(app, "areas", lambda: [Area("/runs", "Runs", "Watch.", routes)])
    with serving(tmp_path) as running:
        yield running
    world.end()


def test_an_error_is_seen_mended_and_the_run_started_stopped_and_resumed(
    site: Open, world: World, browser_page: Any
) -> None:
    tab = browser_page
    tab.goto(site.link)
    tab.goto(f"{site.url}/runs/new")
    tab.get_by_role("link", name="dpo", exact=True).click()
    tab.locator("#recipe", has_text="name: dpo").wait_for()
    assert ".recipes/dpo.yaml" in tab.locator("#command").text_content()

    # A field inside a folded section: it is opened, and has the focus, the mark and the words.
    tab.get_by_text("Training", exact=True).click()
    size = tab.get_by_label("batch_size", exact=True).first
    size.fill("0")
    tab.get_by_text("Training", exact=True).click()
    tab.get_by_role("button", name="Start").click()
    problem = tab.locator('[id="problem-f-train.batch_size"]')
    problem.wait_for(state="visible")
    assert "greater than or equal to 1" in problem.text_content()
    assert tab.evaluate("document.activeElement.id") == "f-train.batch_size"
    assert size.get_attribute("aria-invalid") == "true"
    assert problem.get_attribute("id") in size.get_attribute("aria-describedby").split()
    assert not (world.runs / "dpo").exists()

    size.fill("3")
    problem.wait_for(state="hidden")
    assert size.get_attribute("aria-invalid") is None
    tab.locator("#recipe", has_text="batch_size: 3").wait_for()
    tab.get_by_role("button", name="Reset train.batch_size").click()
    assert size.input_value() == "8"
    tab.locator('[id="f-data.path"]').fill("patient")
    tab.locator("#recipe", has_text="patient").wait_for()
    tab.get_by_role("button", name="Start").click()
    tab.wait_for_url("**/runs/dpo")

    world.ready("dpo")
    tab.goto(f"{site.url}/runs/dpo/log")
    assert tab.locator("[data-part=word]").text_content() == "running"
    tab.get_by_role("button", name="Stop dpo and save").click()
    tab.get_by_role("button", name="Resume dpo").click()
    tab.locator("[data-part=word]", has_text="complete").wait_for()
    assert not tab.get_by_role("button", name="Resume dpo").is_visible()
    tab.locator("[data-log]", has_text="ready").wait_for()
    tab.problems[:] = [said for said in tab.problems if "422" not in said]  # the refused start


def test_the_fields_follow_the_method_and_the_switches(site: Open, browser_page: Any) -> None:
    tab = browser_page
    tab.goto(site.link)
    tab.goto(f"{site.url}/runs/new?from=recipe/dpo")
    method = tab.locator('[id="f-method"]')
    assert tab.locator('[id="f-method.dpo.beta"]').is_visible()
    method.select_option("grpo")
    assert not tab.locator('[id="f-method.dpo.beta"]').is_visible()
    assert tab.locator('[id="f-method.grpo.clip_low"]').is_visible()
    # It samples: the rollout is switched on and opened, and its fields are sent.
    assert tab.locator('[id="s-rollout"]').is_checked()
    assert tab.locator('[id="f-rollout.prompts"]').is_visible()
    tab.locator('[id="f-rollout.prompts"]').fill("5")
    tab.locator("#recipe", has_text="prompts: 5").wait_for()
    tab.locator('[id="s-rollout"]').uncheck()
    assert not tab.locator('[id="f-rollout.prompts"]').is_visible()
    tab.locator('[id="problem-s-rollout"]').wait_for(state="visible")
    method.select_option("sft")
    tab.locator("#recipe", has_text="name: sft").wait_for()
    assert "rollout" not in tab.locator("#recipe").text_content()
    method.select_option("")
    tab.locator('[id="f-method.yaml"]').fill("[dpo, {name: nll, weight: 0.5}]")
    tab.locator("#recipe", has_text="weight: 0.5").wait_for()


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("place", ["new", "new?from=recipe/grpo"])
def test_nothing_is_wider_than_the_window(
    site: Open, browser_page: Any, width: int, place: str
) -> None:
    tab = browser_page
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(site.link)
    tab.goto(f"{site.url}/runs/{place}")
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    wide = tab.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, json.dumps({"scrollWidth": wide})
