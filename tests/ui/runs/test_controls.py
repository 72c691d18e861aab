"""The routes of the form and of the controls, as a program asks them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.conftest import Open, serving, until
from tests.ui.runs.test_processes import World

from palate.ui import app
from palate.ui.app import Area
from palate.ui.runs import controls, routes
from palate.ui.runs.bases import bases, shipped
from palate.ui.runs.processes import Processes

GOOD = {"name": "desk", "model.path": "m", "data.path": "patient"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def site(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A site whose runs are those of the stand-in for the command line."""
    monkeypatch.setattr(controls, "Processes", lambda runs: Processes(runs, world.command))
    monkeypatch.setattr(app, "areas", lambda: [Area("/runs", "Runs", "Watch.", routes.routes())])
    with serving(tmp_path) as running:
        yield running
    world.end()


def start(site: Open, **fields: Any) -> Any:
    return site.client.post("/runs/new/start", json={"fields": {**GOOD, **fields}})


def test_a_run_from_the_form_to_its_end(site: Open, world: World) -> None:
    answer = start(site)
    assert answer.json() == {"name": "desk", "url": "/runs/desk"}
    world.ready("desk")
    facts = site.client.get("/runs/desk/log.json").json()
    assert facts["run"]["word"] == "running"
    assert facts["run"]["words"] == "running"
    assert "palate train" in facts["run"]["command"]
    assert facts["lines"][-1] == "ready"
    assert "ready" in site.client.get("/runs/desk/log").text
    page = site.client.get("/runs/desk").text
    assert page.count('href="/runs/desk/log"') == 2  # beside the samples, and where charts will be
    assert "What could not be read" not in page
    assert start(site).json() == {
        "error": "desk is running already",
        "fields": {"name": "desk is running already"},
    }
    site.client.post("/runs/desk/stop", json={})
    until(lambda: state(site) == "stopped", "the end")
    again = start(site)
    assert again.status_code == 422
    assert "there is a run of the name 'desk' already" in again.json()["fields"]["name"]
    site.client.post("/runs/desk/resume", json={})
    until(lambda: state(site) == "complete", "the whole run")
    assert site.client.post("/runs/desk/resume", json={}).status_code == 400


def state(site: Open) -> str:
    return str(site.client.get("/runs/desk/log.json").json()["run"]["word"])


def test_a_refused_recipe_is_shown_with_the_line_of_the_command(site: Open) -> None:
    start(site, **{"data.path": "refused"})
    until(lambda: state(site) == "refused", "the refusal")
    text = site.client.get("/runs/desk/log").text
    assert text.count("no usable row in my.jsonl: add thumbs") == 2  # as the problem, in the log


def test_fields_that_are_wrong_are_named(site: Open, world: World) -> None:
    answer = start(site, **{"train.epochs": "0", "method.dpo.beta": "x"})
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == {"train.epochs", "method.dpo.beta"}
    for name in ("../up", "a/b", ".hidden", "-x", "new"):
        assert set(start(site, name=name).json()["fields"]) == {"name"}
    assert not world.runs.exists() or not list(world.runs.glob("*/config.yaml"))
    assert site.client.post("/runs/new/start", json={"fields": [1]}).status_code == 400
    assert site.client.post("/runs/new/start", json={}).status_code == 400


def test_the_recipe_follows_the_fields(site: Open) -> None:
    answer = site.client.post("/runs/new/recipe", json={"fields": GOOD | {"optim.lr": "2e-5"}})
    told = answer.json()
    assert "lr: 2.0e-05" in told["recipe"]
    assert told["command"].endswith(".recipes/desk.yaml")
    assert told["errors"] == {}
    told = site.client.post("/runs/new/recipe", json={"fields": GOOD | {"optim.lr": "-1"}}).json()
    assert told["recipe"] == told["command"] == ""
    assert set(told["errors"]) == {"optim.lr"}


def test_the_form_begins_from_what_is_there_and_from_nothing_else(site: Open, world: World) -> None:
    start(site)
    listed = site.client.get("/runs/new.json").json()["bases"]
    keys = [one["key"] for one in listed]
    # A kept recipe whose run is there is that run's.
    assert keys == ["run/desk", *(f"recipe/{path.stem}" for path in shipped())]
    assert keys[1] == "recipe/dpo"
    dpo = next(one for one in listed if one["key"] == "recipe/dpo")
    assert dpo["about"].startswith("Direct Preference Optimization with a LoRA adapter")
    assert "palate train" not in dpo["about"]
    assert all(one["about"].endswith((".", "…")) for one in listed if one["key"] != "run/desk")
    for key in ("recipe/../dpo", "run/../desk", "/etc/passwd", "kept/none", "recipe/"):
        assert site.client.get("/runs/new", params={"from": key}).status_code == 404


def test_every_base_fills_the_form(site: Open, world: World) -> None:
    start(site)
    for key in bases(world.runs):
        page = site.client.get("/runs/new", params={"from": key})
        assert page.status_code == 200, key
        facts = site.client.get("/runs/new.json", params={"from": key}).json()
        values = {one["key"]: one["value"] for one in facts["form"]["basics"]}
        assert values["name"] == ("desk-2" if key.endswith("/desk") else key.partition("/")[2])
        assert values["data.path"] == ("patient" if "desk" in key else site.site.settings.db)
        ids = re.findall(r'id="([^"]+)"', page.text)
        assert len(ids) == len(set(ids))
        named = re.findall(r'aria-describedby="([^"]+)"', page.text)
        assert {one for text in named for one in text.split()} <= set(ids)


def test_a_store_with_a_password_is_not_put_into_a_recipe(tmp_path: Path) -> None:
    from palate.ui.runs.bases import begin

    base = bases(tmp_path)["recipe/dpo"]
    assert begin(base, tmp_path, "palate.db")["data.path"] == "palate.db"
    assert begin(base, tmp_path, "postgresql://me:hunter22@db/x")["data.path"] == ""


def test_there_is_nothing_behind_other_names(site: Open) -> None:
    for name in ("none", "..", "%2e%2e", "a%2fb", ".processes", ".recipes"):
        for path in ("stop", "resume"):
            assert site.client.post(f"/runs/{name}/{path}", json={}).status_code in {400, 404}
        assert site.client.get(f"/runs/{name}/log").status_code == 404
    assert site.client.post("/runs/x/stop", json={"insist": "9"}).status_code == 400


def test_annotators_start_and_stop_nothing(site: Open) -> None:
    ann = site.annotator("ann")
    for path in ("new/start", "new/check", "new/init", "new/recipe", "x/stop", "x/resume"):
        assert ann.post(f"/runs/{path}", json={"fields": GOOD}).status_code == 403
    assert ann.get("/runs/new").status_code == 403
    assert ann.get("/runs/x/log.json").status_code == 403
    ann.close()


@pytest.mark.slow
def test_data_is_looked_at_as_by_init(site: Open, tmp_path: Path) -> None:
    rows = tmp_path / "talks.jsonl"
    rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 2)
    site.client.timeout = 600
    answer = site.client.post("/runs/new/init", json={"model": "m", "data": str(rows)})
    assert answer.json() == {"url": "/runs/new?from=kept/talks"}
    facts = site.client.get("/runs/new.json", params={"from": "kept/talks"}).json()
    assert facts["form"]["method"]["name"] == "dpo"
    assert facts["base"]["about"] == (
        "The data: 2 with a chosen and a rejected answer; format trl. The method: dpo (2 pairs, "
        "which is few: expect little)."
    )
    again = site.client.post("/runs/new/init", json={"model": "m", "data": str(rows)})
    assert again.json() == {"url": "/runs/new?from=kept/talks-2"}
    for model, data, words in (
        ("", "x", "needed"),
        ("m", "none.jsonl", "none.jsonl"),
        ("--help", "none.jsonl", "none.jsonl"),
        ("m", "--debug", "--debug"),
    ):
        refused = site.client.post("/runs/new/init", json={"model": model, "data": data})
        assert refused.status_code in {400, 422}
        assert words in refused.json()["error"]
