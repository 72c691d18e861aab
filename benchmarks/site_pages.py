"""How long each page of `palate ui` takes over loopback, with a large store.

    python benchmarks/big_store.py big.db
    python benchmarks/site_pages.py big.db --runs runs

A real server in a process of its own is asked for every page in turn, round after round, by one
client that keeps its connection; printed are the median and the longest, in ms, and the bytes. The
first round, which fills what is kept, is printed apart. Pages ask for their scripts, charts and
first item beside that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from statistics import median

import httpx

TOKEN = "a-token-to-measure-with"
PAGES = (
    "/",
    "/label",
    "/label?show=single",
    "/agreement",
    "/runs",
    "/runs/new",
    "/arena",
    "/arena/contenders",
    "/data",
    "/data/search",
    "/data/search?words=order",
    "/data/search?words=zebra+crossing",
    "/data/lint",
    "/api",
)


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    words = ["ui", "--port", "0", "--json", "--db", args.db, "--runs", args.runs, "--token", TOKEN]
    command = [sys.executable, "-m", "palate.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None, "it was asked for"
        url = json.loads(process.stdout.readline())["url"]
        try:
            measure(url, args.rounds)
        finally:
            process.terminate()


def measure(url: str, rounds: int) -> None:
    """Ask for every page, round after round."""
    took: dict[str, list[float]] = defaultdict(list)
    size: dict[str, int] = {}
    with httpx.Client(base_url=url, timeout=600) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        rows = client.get("/data/search.json").json()["rows"]
        pages = [*PAGES, *(f"/data/i/{row['id']}" for row in rows[:1])]
        pages += [f"/runs/{one['name']}" for one in client.get("/runs.json").json()["runs"][:1]]
        for path in pages:
            ask(client, path, took, size)
        first = {path: times.pop() for path, times in took.items()}
        while client.get("/label.json").json()["progress"]["reading"]:
            time.sleep(0.5)
        for _ in range(rounds):
            for path in pages:
                ask(client, path, took, size)
    say(f"{'page':36} {'first':>8} {'median':>8} {'most':>8} {'bytes':>9}")
    for path in pages:
        times = f"{first[path]:8.0f} {median(took[path]):8.0f} {max(took[path]):8.0f}"
        say(f"{path[:36]:36} {times} {size[path]:9,}")


def ask(
    client: httpx.Client, path: str, took: dict[str, list[float]], size: dict[str, int]
) -> None:
    """One page, timed to its last byte."""
    began = time.perf_counter()
    answer = client.get(path)
    took[path].append((time.perf_counter() - began) * 1e3)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    size[path] = len(answer.content)


def say(line: str) -> None:
    """A line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
