"""How fast `palate import` is, and that its memory does not grow with the file.

    python benchmarks/importing.py --rows 1000000
    python benchmarks/importing.py --rows 200000 --db postgresql://palate@127.0.0.1/bench

Writes an OpenAI chat log (about 1 kB a row: system prompt, question, answer, usage, a thumb on one
row in ten), imports it in a process of its own, and prints rows/s, the largest resident set of that
process and of the one that parses for it, and the size of the store. `--twice` imports the log once
more under another name, row by row what is there already.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = [a + b for a in ("re", "con", "in", "pro", "de", "un") for b in ("fund", "tract", "voice")]
SYSTEM = "You are the assistant of a small shop. Answer briefly, politely and in full sentences."


def main() -> None:
    """Write, import, print."""
    parser = argparse.ArgumentParser(description="Import speed and memory.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--db", help="URL of an empty store; default: a file that is removed")
    parser.add_argument("--twice", action="store_true", help="import the same rows once more")
    parser.add_argument("--child", nargs=2, metavar=("DB", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "log.jsonl"
        write_log(file, args.rows)
        place = args.db or str(folder / "palate.db")
        megabytes = file.stat().st_size / 1e6
        sys.stdout.write(f"{args.rows:,} rows, {megabytes:,.0f} MB\n")
        measure(place, file, "import")
        if args.twice:
            again = folder / "again.jsonl"
            again.write_bytes(file.read_bytes() + b"\n")
            measure(place, again, "the same rows again")
        if args.db is None:
            stored = sum(path.stat().st_size for path in folder.glob("palate.db*"))
            sys.stdout.write(f"store: {stored / 1e6:,.0f} MB\n")


def write_log(path: Path, rows: int) -> None:
    """A log as OpenAI's API gives it, one exchange a line; every text is different."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as handle:
        for number in range(rows):
            asked = " ".join(rng.choices(WORDS, k=20))
            said = " ".join(rng.choices(WORDS, k=60))
            row = {
                "id": f"chatcmpl-{number:012}",
                "object": "chat.completion",
                "created": 1_700_000_000 + number,
                "model": "gpt-4.1-mini",
                "messages": [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"{asked} {number}?"},
                ],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": said},
                    }
                ],
                "usage": {"prompt_tokens": 60, "completion_tokens": 90, "total_tokens": 150},
                "metadata": {"conversation_id": f"c{number // 3}", "topic": WORDS[number % 18]},
            }
            if number % 10 == 0:
                row["feedback"] = "up" if number % 20 else "down"
            handle.write(json.dumps(row) + "\n")


def measure(place: str, file: Path, title: str) -> None:
    """Import in a fresh process and print what it said."""
    command = [sys.executable, __file__, "--child", place, str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 ourselves
    found = json.loads(done.stdout)
    sys.stdout.write(
        f"{title}: {found['rows'] / found['seconds']:,.0f} rows/s ({found['seconds']:.1f} s), "
        f"{found['new']:,} new; peak {found['own'] / 2**20:,.0f} MiB writing, "
        f"{found['children'] / 2**20:,.0f} MiB parsing\n"
    )


def child(place: str, file: str) -> None:
    """Import one file; figures as JSON. The time counts from the open store to its close."""
    from palate.store.database import Store
    from palate.store.importing import import_paths

    began = time.monotonic()
    with Store.open(place) as store:
        summary = import_paths(store, [file])
    seconds = time.monotonic() - began
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (
        resource.getrusage(which).ru_maxrss * unit
        for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    body = {"rows": summary.rows, "new": summary.added.new, "seconds": seconds}
    sys.stdout.write(json.dumps({**body, "own": own, "children": children}))
    sys.stdout.flush()
    os.sync()


if __name__ == "__main__":
    main()
