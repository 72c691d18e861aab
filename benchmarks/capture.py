"""Measure the capture proxy on loopback: what it adds to a token's way, and whether it loses any.

    python benchmarks/capture.py               # about two minutes
    python benchmarks/capture.py --rounds 1    # a look

A fake provider, the proxy with its recorder and store, and the clients are processes of their own.
Each workload runs directly and through the proxy by turns. Every stream has a text of its own,
which is checked token by token; at the end the proxy must have stored each stream once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop
from benchmarks.capturing.client import Measured, load

PROXY = """
import json, sys
from palate.cli.capturing import run_capture
run_capture(None, [], json.loads(sys.argv[1]), as_json=True)
"""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Workload:
    """See `benchmarks.capturing.client.load`."""

    name: str
    at_once: int
    each: int
    tokens: int
    gap: float
    spread: float


WORKLOADS = (
    Workload("one at a time", 1, 300, 4, 0.001, 0.01),
    Workload("50 streams, 20 tokens/s each", 50, 4, 60, 0.05, 3.0),
    Workload("200 streams, 20 tokens/s each", 200, 3, 100, 0.05, 5.0),
    Workload("200 streams asked at once", 200, 1, 100, 0.05, 0.0),
)


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process, and its end."""
    process = subprocess.Popen(  # noqa: S603 - our own programs
        command, text=True, **options
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def summary(values: list[float]) -> str:
    """Median and 95th percentile, in ms."""
    return f"{statistics.median(values):6.2f} {statistics.quantiles(values, n=20)[-1]:7.2f}"


def health(port: int) -> dict[str, int]:
    """The proxy's counts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/palate/health") as found:
        counts: dict[str, int] = json.load(found)
    return counts


def measure(provider: int, proxy: int, pid: int, rounds: int) -> int:
    """Print a table; how many streams went through the proxy."""
    through = 0
    say = sys.stdout.write
    say(f"{'':32}{'first token, ms':>24}{'each token, ms':>18}{'proxy CPU':>14}\n")
    say(f"{'':40}{'median':>8}{'p95':>8}{'median':>10}{'p95':>8}{'us/token':>14}\n")
    for work in WORKLOADS:
        sides = {"direct": (provider, Measured()), "proxied": (proxy, Measured())}
        used = 0.0
        for number in range(rounds):
            for side, (port, sum_) in sides.items():
                before = cpu(pid)
                label = f"{work.name.split()[0]}{len(work.name)}-{side[0]}{number}"
                found = uvloop.run(
                    load(
                        port,
                        label,
                        at_once=work.at_once,
                        each=work.each,
                        tokens=work.tokens,
                        gap=work.gap,
                        spread=work.spread,
                    )
                )
                assert not found.wrong, found.wrong[:5]
                assert found.streams == work.at_once * work.each
                sum_.first += found.first
                sum_.tokens += found.tokens
                if side == "proxied":
                    through += found.streams
                    used += cpu(pid) - before
        for side, (_, sum_) in sides.items():
            per = used / len(sum_.tokens) * 1e6
            tail = f"{per:14.0f}" if side == "proxied" else ""
            say(f"{work.name:32}{side:>8}  {summary(sum_.first)}  {summary(sum_.tokens)}{tail}\n")
        medians = [statistics.median(sides[side][1].first) for side in ("proxied", "direct")]
        say(f"{'':32}   added  {medians[0] - medians[1]:6.2f}\n")
        sys.stdout.flush()
    return through


def main() -> None:
    """Start the three, measure, and check that nothing is missing."""
    parser = argparse.ArgumentParser(description="Measure the capture proxy.")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "benchmarks.capturing.provider"]
        with running(ours, stdout=subprocess.PIPE, env=env) as upstream:
            provider = int(upstream.stdout.readline())  # type: ignore[union-attr]
            settings = {
                "upstream": f"http://127.0.0.1:{provider}/v1",
                "port": 0,
                "db": f"{folder}/palate.db",
                "spill": f"{folder}/spill",
            }
            command = [sys.executable, "-c", PROXY, json.dumps(settings)]
            options = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "env": env}
            with running(command, **options) as proxied:  # type: ignore[arg-type]
                line = proxied.stderr.readline()  # type: ignore[union-attr]
                proxy = int(line.split(" passes to ")[0].rpartition(":")[2])
                through = measure(provider, proxy, proxied.pid, args.rounds)
                waited = time.monotonic() + 60
                while (counts := health(proxy))["stored"] < through and time.monotonic() < waited:
                    time.sleep(0.2)
                sys.stdout.write(f"{through} streams through the proxy: {json.dumps(counts)}\n")
                assert counts["stored"] == counts["captured"] == through, "captures are missing"
                assert counts["lost"] == 0


if __name__ == "__main__":
    main()
