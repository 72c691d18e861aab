"""The trials behind docs/reliability.md: every fault as often as the table there says.

    python -m benchmarks.reliability                      # which faults there are
    python -m benchmarks.reliability kill                 # all trials that its log does not have
    python -m benchmarks.reliability kill --trials 20 --log /tmp/kill.jsonl
    python -m benchmarks.reliability kill --row           # nothing is run: what the log says

Each trial is a line of the log, docs/reliability/FAULT.jsonl, once it has ended: the fault, the
number that seeds it, whether what must hold held, the seconds, what was seen, and the commit of
the code. Started again, the script goes on with the trials that are not there; `--again` repeats
those that failed. Exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.faults import find, full_count, names

from palate.machine import calm_threads

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "docs" / "reliability"


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Trials of a fault, with a log.")
    add = parser.add_argument
    add("fault", nargs="?", choices=names(), help="without one: a list")
    add("--trials", type=int, help="up to this number; default: as many as the table asks for")
    add("--log", type=Path, help="default: docs/reliability/FAULT.jsonl")
    add("--again", action="store_true", help="repeat the trials that failed")
    add("--row", action="store_true", help="only say what the log holds")
    return parser.parse_args()


def main() -> int:
    """Run what is missing; the exit code."""
    calm_threads()  # before a fault's module imports torch
    args = arguments()
    if args.fault is None:
        for name in names():
            say(f"{name}: {find(name).FAULT}")
        return 0
    fault = find(args.fault)
    log = args.log or LOGS / f"{args.fault}.jsonl"
    if not args.row:
        total = args.trials or full_count(fault)
        found = read(log)
        for number in in_order(fault, total):
            if number not in found or (args.again and not found[number]["passed"]):
                append(log, outcome(fault, args.fault, number))
    found = read(log)
    say(row(fault, args.fault, found))
    return int(not all(line["passed"] for line in found.values()))


def in_order(fault: ModuleType, total: int) -> list[int]:
    """The trials, so that those which are done say something of all: the last bit counts most."""
    numbers = range(1, total + 1)
    if not hasattr(fault, "every"):
        return list(numbers)
    return sorted(numbers, key=lambda number: f"{number - 1:020b}"[::-1])


def outcome(fault: ModuleType, name: str, number: int) -> dict[str, Any]:
    """A trial's line; the folder of one that failed stays, and is named."""
    folder = Path(tempfile.mkdtemp(prefix=f"palate-{name}-{number}-"))
    start = time.perf_counter()
    line: dict[str, Any] = {"fault": name, "trial": number, "passed": True}
    try:
        line["saw"] = dict(fault.trial(number, folder))
    except Exception as error:  # noqa: BLE001 - whatever it is, the trial failed and the next one comes
        traceback.print_exc()
        text = str(error).split("\n", maxsplit=1)[0]
        line |= {"passed": False, "error": f"{type(error).__name__}: {text}"}
    line |= {"seconds": round(time.perf_counter() - start, 2), "commit": commit()}
    if line["passed"]:
        shutil.rmtree(folder, ignore_errors=True)
    verdict = "passed" if line["passed"] else f"FAILED, see {folder}"
    say(f"{name} {number}: {verdict} {line.get('saw', '')}")
    return line


def read(log: Path) -> dict[int, dict[str, Any]]:
    """The last line of each trial; one that was cut short is left out."""
    found = {}
    for text in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        found[line["trial"]] = line
    return found


def append(log: Path, line: dict[str, Any]) -> None:
    """Add a line; one that was cut short before it ends first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a+b") as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def row(fault: ModuleType, name: str, found: dict[int, dict[str, Any]]) -> str:
    """The fault's row of the table."""
    passed = sum(line["passed"] for line in found.values())
    asked = getattr(fault, "TRIALS", len(found))
    more = f" (of {asked})" if asked > len(found) else ""
    shown = (
        f"[test](../tests/reliability/test_{name}.py), `python -m benchmarks.reliability {name}`"
    )
    return f"| {fault.FAULT} | {fault.HOLDS} | {passed} of {len(found)}{more} | {shown} |"


def commit() -> str:
    """The code's commit, `+` where files differ from it; empty outside git."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
