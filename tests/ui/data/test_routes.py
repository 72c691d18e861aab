"""The data pages over HTTP: every page and its twin, filters, files, errors, words of users."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.conftest import Open, asked, serving

from palate.curate.funnel import Funnel
from palate.records import Arrival, Message, Reject, Signal
from palate.store.database import Store
from palate.store.ledger import register
from palate.store.reading import stored
from palate.store.snapshot import write_snapshot
from palate.store.sources import add_rejects, open_source

EVIL = "<script>alert('x')</script> & =1+1"
LONG = "w" * 4_000


def fill(folder: Path) -> None:
    """A vote with a comment, an edit, a judge's score; a script and a long word; a snapshot."""
    with Store.open(folder / "palate.db") as store:
        store.add(
            [
                Arrival(asked("Which is better?", EVIL, LONG, topic="a<b"), ("t:1",), "user-9"),
                Arrival(asked("Plain?", "Plain."), ("t:2",)),
                Arrival(Signal(("t:1",), "vote", 0, over=1, by="ann", comment=EVIL)),
                Arrival(Signal(("t:2",), "edit", 0, edit=(Message("assistant", "Plainer."),))),
                Arrival(Signal(("t:2",), "score", 0, score=0.5, by="judge/short")),
            ],
            "=cmd.jsonl",
        )
        source = open_source(store, "=cmd.jsonl")
        add_rejects(
            store, source.id, [Reject("=cmd.jsonl", n, "missing-field", "") for n in (4, 9)]
        )
        pairs = [one.example for one in stored(store)]
        rejects = [Reject("a.jsonl", n, "too-long", f"{n} tokens", EVIL) for n in range(60)]
        funnel = Funnel()
        funnel.add("read", 62, "rows read")
        funnel.add("length", 2, "pairs", {"too-long": 60})
        place = folder / "runs" / "one" / "snapshot"
        manifest = write_snapshot(place, pairs, [], rejects, funnel)
        register(store, place, manifest, "run", {})


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Open]:
    fill(tmp_path)
    with serving(tmp_path) as running:
        yield running


def told(site: Open, path: str, **given: str) -> Any:
    place, _, query = path.partition("?")
    answer = site.client.get(f"{place}.json{'?' if query else ''}{query}", params=given or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(site: Open, path: str, **given: str) -> str:
    answer = site.client.get(path, params=given or None)
    assert answer.status_code == 200, answer.text
    return answer.text


def key_of(site: Open, words: str) -> str:
    (row,) = told(site, "/data/search", words=words)["rows"]
    return str(row["id"])


def test_the_store_its_sources_and_what_was_made_of_it(data: Open) -> None:
    facts = told(data, "/data")
    assert facts["counts"] == {"interactions": 2, "erased": 0, "edit": 1, "score": 1, "vote": 1}
    (source,) = facts["sources"]
    assert (source["interactions"], source["rejects"]) == (2, {"missing-field": 2})
    (made,) = facts["snapshots"]
    assert (made["name"], made["is_run"], made["of_store"]) == ("one", True, True)
    assert [(s["name"], s["count"], s["dropped"]) for s in made["steps"]] == [
        ("read", 62, {}),
        ("length", 2, {"too-long": 60}),
    ]
    page = shown(data, "/data")
    assert "60 too-long" in page
    assert 'style="' not in page


def test_each_reason_leads_to_its_rows(data: Open) -> None:
    page = shown(data, "/data")
    (place,) = re.findall(r'href="(/data/dropped[^"]+)"', page)
    first = told(data, place.replace("&amp;", "&"))
    assert (first["total"], len(first["rows"]), first["more"]) == (60, 50, True)
    assert first["rows"][7]["detail"] == "7 tokens"
    rest = told(data, "/data/dropped", of=first["key"], reason="too-long", page="1")
    assert [row["line"] for row in rest["rows"]] == list(range(50, 60))
    assert "<script>alert" not in shown(data, place.replace("&amp;", "&"))
    assert told(data, "/data/dropped", of=first["key"], reason="other")["rows"] == []
    (place,) = re.findall(r'href="(/data/rejects[^"]+)"', page)
    assert told(data, place.replace("&amp;", "&"))["lines"] == [4, 9]


def test_words_are_marked_and_stay_text(data: Open) -> None:
    page = shown(data, "/data/search", words="<SCRIPT>")
    assert "<mark>&lt;script&gt;</mark>" in page
    assert "<script>alert" not in page
    assert "Which is better?" not in page, "the excerpt is of the message that holds the words"


def test_what_is_not_known_is_one_line(data: Open) -> None:
    for path, status in [
        ("/data/search?thumb=sideways", 400),
        ("/data/search?before=nonsense", 400),
        ("/data/search?begin=yesterday", 400),
        ("/data/i/zzz", 404),
        ("/data/i/" + "0" * 32, 404),
        ("/data/i/" + "0" * 32 + "/trace", 404),
        ("/data/dropped?of=../../etc&reason=x", 404),
        ("/data/rejects?source=x", 404),
        ("/data/lint?of=none", 404),
    ]:
        answer = data.client.get(path)
        assert answer.status_code == status, path
        place, _, query = path.partition("?")
        twin = data.client.get(f"{place}.json?{query}").json()
        assert set(twin) == {"error"}, path


def test_one_interaction_in_full(data: Open) -> None:
    facts = told(data, f"/data/i/{key_of(data, 'alert')}")
    assert [a["model"] for a in facts["answers"]] == ["model-a", "model-b"]
    assert facts["answers"][0]["said"] == {"preferred": 1}
    (vote,) = facts["events"]
    assert (vote["by"], vote["words"], vote["comment"]) == ("ann", "prefers answer A over B", EVIL)
    assert facts["user"] == "user-9"
    assert facts["tags"] == {"topic": "a<b"}
    (pair, labelled, _) = facts["made"]
    assert [(e["chosen"], e["by"]) for e in pair["examples"]] == [(EVIL, "vote")]
    assert [e["label"] for e in labelled["examples"]] == [True, False]
    assert facts["erase"].endswith(f"palate.db --id {facts['id']}")
    page = shown(data, f"/data/i/{facts['id']}")
    assert "<script>alert" not in page
    assert LONG in page
    edited = told(data, f"/data/i/{key_of(data, 'Plain.')}")
    assert {event["kind"]: event["is_judge"] for event in edited["events"]} == {
        "edit": False,
        "score": True,
    }


def test_files_hold_what_was_found_and_no_formula(data: Open) -> None:
    answer = data.client.get("/data/export.csv", params={"words": "alert"})
    assert answer.headers["content-disposition"] == 'attachment; filename="palate-search.csv"'
    header, row = csv.reader(io.StringIO(answer.text, newline=""))
    found = dict(zip(header, row, strict=True))
    assert found["source"] == "'=cmd.jsonl"
    assert found["answers"].startswith(EVIL)
    assert "\n\n* * *\n\n" in found["answers"], "what separates answers is no formula either"
    assert found["events"] == "1 vote"
    assert "user-9" not in answer.text
    lines = data.client.get("/data/export.jsonl").text.splitlines()
    assert sorted(json.loads(line)["prompt"][0]["content"] for line in lines) == [
        "Plain?",
        "Which is better?",
    ]


def test_an_erased_interaction_is_found_nowhere(data: Open) -> None:
    from palate.store.erasing import erase

    key = key_of(data, "alert")
    erase(data.site.store, [key])
    assert told(data, "/data/search", words="alert")["rows"] == []
    assert "alert" not in data.client.get("/data/export.jsonl").text
    assert "was erased on" in data.client.get(f"/data/i/{key}.json").json()["error"]
    assert data.client.get(f"/data/i/{key}/trace").status_code == 404


def test_annotators_see_none_of_it(data: Open) -> None:
    client = data.annotator("ann")
    for path in ("", "/search", "/lint", "/export.csv", "/export.jsonl", "/i/" + "0" * 32):
        assert client.get(f"/data{path}").status_code == 403, path
    assert client.post("/data/lint", json={"of": ""}).status_code == 403
    client.close()


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        assert "palate import" in shown(site, "/data")
        assert "palate import" in shown(site, "/data/search")
        assert "Lint has not been run" in shown(site, "/data/lint")


def test_a_system_prompt_tells_no_row_from_another(tmp_path: Path) -> None:
    """Where the words stand in the system prompt alone, the row shows what the user asked."""
    rows = [
        asked("Where is my parcel?", "On its way.", system="Ask about the order."),
        asked("Has my order come?", "Yes.", system="Ask about the order."),
    ]
    with Store.open(tmp_path / "palate.db") as store:
        store.add([Arrival(row, (f"o:{at}",)) for at, row in enumerate(rows)], "tests")
    with serving(tmp_path) as site:
        found = told(site, "/data/search", words="order")["rows"]
    texts = {"".join(part["text"] for part in row["excerpt"]): row["in_system"] for row in found}
    assert texts == {"Where is my parcel?": True, "Has my order come?": False}
    hits = [part["text"] for row in found for part in row["excerpt"] if part["hit"]]
    assert hits == ["order"]
