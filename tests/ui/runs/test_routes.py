"""The pages of runs over HTTP: what they show, whom they refuse, and what cannot break them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.ui.conftest import Open, serving
from tests.ui.runs.folders import (
    answer,
    begin,
    dpo_lines,
    finish,
    heldout_line,
    train_line,
    write,
)

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Open]:
    with serving(place) as running:
        yield running


@pytest.fixture
def desk(place: Path, request: pytest.FixtureRequest) -> Path:
    """A run of ten steps in a folder named after the test."""
    folder = begin(place / "runs", request.node.name.replace("[", "-").replace("]", "")[:80])
    write(folder, heldout_line(0, loss=0.7), *dpo_lines(1, 10), heldout_line(10, loss=0.5))
    return folder


def page(site: Open, path: str, status: int = 200) -> str:
    found = site.client.get(path)
    assert found.status_code == status, found.text[:500]
    return found.text


def twin(site: Open, path: str, status: int = 200) -> Any:
    return json.loads(page(site, path, status))


def test_the_list_and_its_twin_say_the_same(site: Open, desk: Path) -> None:
    rows = {row["name"]: row for row in twin(site, "/runs.json")["runs"]}
    row = rows[desk.name]
    assert row["headline"] == "Held-out loss: 0.70 → 0.50"
    assert row["state"] == "unfinished"
    assert (row["progress"]["step"], row["progress"]["total"]) == (10, 20)
    text = page(site, "/runs")
    assert f'href="/runs/{desk.name}"' in text
    assert "Held-out loss: 0.70 → 0.50" in text
    assert "10 of 20 steps" in text


def test_no_runs_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path) as empty:
        assert "palate quickstart" in page(empty, "/runs")
        assert twin(empty, "/runs.json")["runs"] == []


def test_a_run_says_what_is_there_and_how_to_get_what_is_not(site: Open, desk: Path) -> None:
    found = twin(site, f"/runs/{desk.name}.json")
    assert [chart["id"] for chart in found["charts"]][:2] == ["loss", "margin"]
    titles = {one["title"]: one for one in found["findings"]}
    assert titles["The chosen reward falls while the margin rises"]["level"] == "note"
    assert found["spread"] is None
    assert found["ship"] is None
    text = page(site, f"/runs/{desk.name}")
    assert f"palate eval {desk}" in text
    assert "The chosen reward falls while the margin rises" in text
    assert "Not recorded: " in text
    last = {row["key"]: row for row in found["latest"]}
    assert (last["train.loss"]["first"], last["train.loss"]["last"]) == ("0.69", "0.6")


def test_findings_are_made_anew_as_the_run_goes(site: Open, desk: Path) -> None:
    def titles() -> set[str]:
        found = twin(site, f"/runs/{desk.name}.json")["findings"]
        return {one["title"] for one in found}

    assert "Held-out loss fell" in titles()
    write(desk, heldout_line(20, loss=0.9))
    assert "Held-out loss rose again" in titles()
    with (desk / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "step": 21, "loss": NaN}\n')
    assert "Training diverged" in titles()


def test_what_a_model_says_is_never_markup(site: Open, desk: Path) -> None:
    write(desk, answer("before", SCRIPT), answer("after", f"Hello {SCRIPT}"), file="samples.jsonl")
    for path in (f"/runs/{desk.name}", f"/runs/{desk.name}/samples"):
        text = page(site, path)
        assert SCRIPT not in text
        assert "&lt;script&gt;" in text


def test_rollouts_are_shown_by_step(site: Open, desk: Path) -> None:
    row = {
        "id": "x",
        "prompt": [{"role": "user", "content": "Where?"}],
        "answers": [
            {"origin": "own", "text": "worse", "tokens": 1, "finished": True, "reward": 0.1},
            {"origin": "own", "text": SCRIPT, "tokens": 2, "finished": False, "reward": 0.9},
        ],
    }
    (desk / "rollouts").mkdir()
    write(desk / "rollouts", row, {"odd": 1}, file="step-3.jsonl")
    found = twin(site, f"/runs/{desk.name}/samples.json?step=3")
    assert [one["verdict"] for one in found["groups"][0]["answers"]] == ["reward 0.9", "reward 0.1"]
    assert SCRIPT not in page(site, f"/runs/{desk.name}/samples?step=3")
    assert "no rollout" in page(site, f"/runs/{desk.name}/samples?step=4", 404)


def test_series_are_thinned_and_by_range(site: Open, desk: Path) -> None:
    write(desk, *(train_line(step, loss=1.0 + step % 7) for step in range(11, 2000)))
    whole = twin(site, f"/runs/{desk.name}/series?key=train.loss&points=100")
    assert list(whole["lines"]) == ["train.loss"]
    assert len(whole["lines"]["train.loss"][0]) <= 100
    part = twin(site, f"/runs/{desk.name}/series?key=train.loss&points=100&from=50&to=60")
    assert part["lines"]["train.loss"][0] == list(range(49, 62))
    for odd in ("points=x", "from=nan", "to=1e999"):
        page(site, f"/runs/{desk.name}/series?{odd}", 400)


def test_a_stream_tells_new_lines_and_ends_with_the_run(site: Open, desk: Path) -> None:
    mark = twin(site, f"/runs/{desk.name}/series")["mark"]
    write(desk, train_line(11, loss=0.25))
    seen = []
    url = f"/runs/{desk.name}/events?mark={mark}"
    with site.client.stream("GET", url) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for event, data in events_in(stream):
            seen.append(event)
            if event == "points":
                assert data["lines"]["train.loss"] == [[11], [0.25]]
                finish(desk)
            if event == "progress" and data["state"] == "complete":
                seen.append("complete")
    assert seen[0] == "progress"
    assert seen[-1] == "end"
    assert {"points", "complete"} <= set(seen)


def test_several_runs_in_one_stream(site: Open, desk: Path, place: Path) -> None:
    other = begin(place / "runs", f"{desk.name}-b")
    finish(desk)
    finish(other)
    url = f"/runs/compare/events?run={desk.name}&run={other.name}"
    with site.client.stream("GET", url) as stream:
        ended = {data["run"] for event, data in events_in(stream) if event == "end"}
    assert ended == {desk.name, other.name}


def events_in(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_runs_laid_over_each_other(site: Open, desk: Path, place: Path) -> None:
    other = begin(place / "runs", f"{desk.name}-b", method="grpo")
    write(other, train_line(1, loss=0.1, kl=3.0))
    found = twin(site, f"/runs/compare.json?run={desk.name}&run={other.name}&run={desk.name}")
    assert [run["method"] for run in found["runs"]] == ["dpo", "grpo"]
    rows = {(row["chart"], row["line"]): row["values"] for row in found["latest"]}
    assert rows["Loss", "training"] == ["0.6", "0.1"]
    assert rows["KL on sampled text", "training"] == ["–", "3"]
    page(site, f"/runs/compare?run={desk.name}&run={other.name}")
    assert "say which runs" in page(site, "/runs/compare", 400)
    many = "&".join(f"run={n}" for n in range(13))
    assert "at most 12" in page(site, f"/runs/compare?{many}", 400)
    page(site, "/runs/compare?run=never", 404)


def test_a_report_that_is_a_link_is_none(site: Open, desk: Path, tmp_path: Path) -> None:
    """A run of somebody else may hold a link to any file that we can read."""
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (desk / "report.html").symlink_to(tmp_path / "secret")
    page(site, f"/runs/{desk.name}/report", 404)
    assert f"/runs/{desk.name}/report" not in page(site, f"/runs/{desk.name}")
    (desk / "report.html").unlink()


def test_the_report_is_shut_off_from_the_site(site: Open, desk: Path) -> None:
    page(site, f"/runs/{desk.name}/report", 404)
    (desk / "report.html").write_text(f"<h1>Report</h1>{SCRIPT}", encoding="utf-8")
    found = site.client.get(f"/runs/{desk.name}/report")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy.split("; ")
    assert "script-src" not in policy


NAMES = ("%2e%2e", "..%2foutside", "%2e%2e%2foutside", "..%5coutside", "%2fetc", "link")


@pytest.mark.parametrize("name", [*NAMES, "a%00b", "never", "x" * 3000])
def test_a_name_leads_nowhere_else(site: Open, place: Path, name: str) -> None:
    outside = place / "outside"
    if not outside.exists():
        begin(place, "outside")
        (outside / "report.html").write_text("secret", encoding="utf-8")
        (place / "runs").mkdir(exist_ok=True)
        (place / "runs" / "link").symlink_to(outside)
    for path in ("", ".json", "/series", "/events", "/report", "/samples", "/samples.json"):
        found = raw_get(site, f"/runs/{name}{path}")
        assert found.status_code in {400, 404}, (path, found.status_code)
        assert "secret" not in found.text


def raw_get(site: Open, path: str) -> httpx.Response:
    """Without the client's own tidying of `..`."""
    url = httpx.URL(site.url).copy_with(raw_path=path.encode())
    return site.client.get(url)


def test_annotators_see_no_runs(site: Open, desk: Path) -> None:
    client = site.annotator("ann")
    for path in ("", f"/{desk.name}.json", f"/{desk.name}/series", f"/{desk.name}/events"):
        assert client.get(f"/runs{path}").status_code == 403
    client.close()


FILES = (
    "config.yaml",
    "metrics.jsonl",
    "results.json",
    "samples.jsonl",
    "heldout.jsonl",
    "environment.json",
    "plan.json",
    "evaluation/report.json",
    "snapshot/manifest.json",
    "snapshot/heldout.parquet",
)
ODD = (b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"a": ' * 3000, b'{"gate": 3, "stages": 1}\n')


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_files_break_no_page(site: Open, desk: Path, text: bytes) -> None:
    for name in FILES:
        path = desk / name
        path.parent.mkdir(exist_ok=True)
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes(text)
        for page_of in ("/runs", f"/runs/{desk.name}", f"/runs/{desk.name}/samples"):
            page(site, page_of)
        page(site, f"/runs/{desk.name}/series")
        page(site, f"/runs/compare?run={desk.name}")
        if kept is None:
            path.unlink()
        else:
            path.write_bytes(kept)
    assert not site.said
