"""A vote that was acknowledged is never lost: kill -9, and twenty people at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.ui.conftest import TOKEN, fill, serving, until

from palate.store.database import Store
from palate.store.schema import EVENT

TRIALS = int(os.environ.get("PALATE_TRIALS", "5"))
"""100 for the figure in docs/labelling.md."""
PEOPLE = 20
SAYS = ("clearly-first", "slightly-first", "tie", "slightly-second", "clearly-second", "both-bad")


def words_in(db: Path) -> list[Any]:
    with Store.open(db) as store, store.reading() as connection:
        rows = connection.execute(sa.select(EVENT).where(EVENT.c.erased.is_(None))).all()
    return [row for row in rows if row.kind in {"vote", "tie"}]


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    words = ["ui", "--port", "0", "--json", "--db", "palate.db", "--token", TOKEN, "--me", "kim"]
    process = subprocess.Popen(
        [sys.executable, "-m", "palate.cli", *words], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def next_item(client: httpx.Client) -> Any:
    """The next item; while the store is still being read, none need be known yet."""

    def found() -> Any:
        told = client.get("/label.json").json()
        return told if told["item"] is not None or not told["progress"]["reading"] else None

    return until(found, "the reading of the store")["item"]


@pytest.mark.slow
def test_an_acknowledged_vote_survives_kill_9(tmp_path: Path) -> None:
    """One vote a trial, on an item that was not voted on; the server dies once it has answered."""
    fill(tmp_path / "palate.db", pairs=TRIALS + 3, singles=0)
    acknowledged: list[tuple[str, str]] = []
    given: set[tuple[str, int]] = set()
    for trial in range(TRIALS):
        process, url = started(tmp_path)
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                client.headers["authorization"] = f"Bearer {TOKEN}"
                item = next_item(client)
                say = SAYS[trial % len(SAYS)]
                body = {"item": item["item"], "round": item["round"], "say": say}
                answer = client.post("/label/vote", json=body)
                process.send_signal(signal.SIGKILL)  # before anything else is done
                assert answer.status_code == 200, answer.text
                acknowledged.append((item["item"], say))
                given.add((item["item"], item["round"]))
        finally:
            process.kill()
            process.wait()
        kept = words_in(tmp_path / "palate.db")
        assert len(kept) == len(acknowledged), f"trial {trial}: {acknowledged[-1]} is lost"
        assert all(row.by_whom == "kim" for row in kept)
    assert len(given) == TRIALS  # what was voted on came no more, but for second looks
    said = Counter(
        "tie" if row.kind == "tie" else "bad" if "choice" not in json.loads(row.said) else "one"
        for row in words_in(tmp_path / "palate.db")
    )
    assert said["tie"] == sum(say == "tie" for _, say in acknowledged)
    assert said["bad"] == sum(say == "both-bad" for _, say in acknowledged)


@pytest.mark.slow
def test_twenty_people_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """Twenty people vote until nothing is left for them, all at once, over HTTP."""
    pairs = 120
    fill(tmp_path / "palate.db", pairs=pairs, singles=0)
    with serving(tmp_path, overlap=0.15) as site:

        def label(name: str) -> list[tuple[str, int]]:
            done = []
            client = site.annotator(name)
            while (item := next_item(client)) is not None:
                say = SAYS[len(done) % len(SAYS)]
                body = {"item": item["item"], "round": item["round"], "say": say}
                answer = client.post("/label/vote", json=body)
                assert answer.status_code == 200, answer.text
                done.append((item["item"], item["round"]))
            client.close()
            return done

        names = [f"person-{n}" for n in range(PEOPLE)]
        with ThreadPoolExecutor(PEOPLE) as pool:
            by_name = dict(zip(names, pool.map(label, names), strict=True))
    kept = words_in(tmp_path / "palate.db")
    acknowledged = Counter({name: len(done) for name, done in by_name.items()})
    assert Counter(row.by_whom for row in kept) == acknowledged  # none lost, none of nobody's
    for name, done in by_name.items():
        assert len(set(done)) == len(done), f"{name} got an item twice"
    seen = Counter(item for done in by_name.values() for item, turn in done if turn == 0)
    assert len(seen) == pairs  # nothing was left over
    assert set(seen.values()) <= {1, 2}  # two where the overlap asks for it, else one
    twice = sum(count == 2 for count in seen.values())
    assert 0 < twice < pairs * 0.35  # 15 % are asked for; by hash, so not exactly
