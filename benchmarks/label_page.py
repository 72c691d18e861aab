"""How quick the labelling page is over a large store: while it is read, after it, and votes.

    python benchmarks/big_store.py big.db
    python benchmarks/label_page.py big.db

Asked is the site itself, in this process and without a network between; it votes, so give it a
copy. Wall is what somebody waits for, CPU what the process needed, the reading thread included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from starlette.testclient import TestClient

from palate.ui.app import application
from palate.ui.label.routes import queue_of
from palate.ui.settings import Settings
from palate.ui.site import Site

TOKEN = "a-token-to-measure-with"
TIMES = 60


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    site = Site(Settings(db=parser.parse_args().db, token=TOKEN))
    client = TestClient(application(site), base_url="http://127.0.0.1:8321")
    client.headers["authorization"] = f"Bearer {TOKEN}"
    began, used = time.perf_counter(), time.process_time()
    queue = queue_of(site)
    _measured("first page", lambda: client.get("/label"), 1)
    while not queue.progress("owner", "pairs").total:
        time.sleep(0.01)
    _say(f"{'first item known after':32} {time.perf_counter() - began:8.2f} s")
    _measured("a page while the store is read", lambda: client.get("/label.json"))
    queue.ready(3_600)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    _say(f"{'all read after':32} {seconds:8.2f} s, CPU {cpu:.2f} s")
    _say(f"{queue.progress('owner', 'pairs').total:,} pairs")
    _measured("a page (HTML)", lambda: client.get("/label"))
    _measured("a page (JSON)", lambda: client.get("/label.json"))
    held: list[str] = []

    def ahead() -> Any:
        answer = client.get("/label.json", params={"held": held})
        held.append(answer.json()["item"]["item"])
        return answer

    _measured("the next item, leased", ahead)
    keys = iter(held)
    _measured("a vote", lambda: client.post("/label/vote", json={"item": next(keys), "say": "tie"}))
    _measured("an undo", lambda: client.post("/label/undo", json={}))
    site.close()


def _measured(name: str, ask: Callable[[], Any], times: int = TIMES) -> None:
    walls, used = [], time.process_time()
    for _ in range(times):
        began = time.perf_counter()
        answer = ask()
        walls.append((time.perf_counter() - began) * 1e3)
        assert answer.status_code == 200, answer.text
    cpu = (time.process_time() - used) * 1e3 / times
    _say(f"{name:32} median {median(walls):7.1f} ms, most {max(walls):7.1f} ms, CPU {cpu:7.1f} ms")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
