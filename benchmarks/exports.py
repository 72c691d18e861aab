"""Whether TRL and `datasets` accept what we export.

    python benchmarks/exports.py
    python benchmarks/exports.py more.jsonl --out exports.md

Examples of every shape, with tools that differ from row to row, and the files that are named, are
written in each export format. In TRL's own environment (made on the first call; `--trl-env FOLDER`
takes one that is there) `datasets` must load the rows as they were written, and TRL's trainers must
prepare them with nothing lost. Exits with 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from exporting.material import examples
from racing.environment import trl_python

from palate.ingest import read_examples
from palate.records import Example
from palate.store.export import export, write_jsonl
from palate.store.targets import TARGETS

HERE = Path(__file__).resolve().parent
CHECKS = ("same", "conversational", "prompts kept", "answers")


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Let TRL read what we export.")
    add = parser.add_argument
    add("files", nargs="*", type=Path, help="data of which examples are exported too")
    add("--trl-env", help="folder of an environment that has TRL")
    add("--torch-index", help="where pip finds torch for TRL's environment")
    add("--out", type=Path, help="file for the table")
    return parser.parse_args()


def main() -> None:
    """Write, let the other side read, compare."""
    told = arguments()
    python = trl_python(told.trl_env, told.torch_index, say)
    with tempfile.TemporaryDirectory() as folder:
        refused = write_all(material(told.files), Path(folder))
        theirs = read_there(python, Path(folder))
    text = markdown(theirs["found"], refused)
    say(f"TRL {theirs['trl']}, datasets {theirs['datasets']}\n\n{text}")
    if told.out:
        told.out.write_text(text + "\n", encoding="utf-8")
    wrong = [f"{f['target']} {f['shape']}" for f in theirs["found"] if problems(f)]
    if wrong:
        sys.exit(f"not accepted as written: {', '.join(wrong)}")


def material(files: list[Path]) -> dict[str, list[Example]]:
    """The examples by shape; groups, which no target takes, are left out."""
    found = examples()
    for file in files:
        for example in read_examples(file):
            found.setdefault(example.shape, []).append(example)
    found.pop("group", None)
    return found


def write_all(found: dict[str, list[Example]], folder: Path) -> dict[str, Counter[str]]:
    """A file for each shape of each target; how many examples had no place, by reason."""
    refused: dict[str, Counter[str]] = {}
    for target in TARGETS.values():
        for shape in target.shapes:
            name = f"{target.name}-{shape}"
            rejects: Counter[str] = Counter()
            rows = export(found[shape], target.name, lambda r, to=rejects: to.update([r.reason]))
            write_jsonl(folder / f"{name}.jsonl", rows)
            refused[name] = rejects
    return refused


def read_there(python: str, folder: Path) -> dict[str, Any]:
    """What the other environment found; raises `SystemExit` with the end of its output."""
    out = folder / "found.json"
    done = subprocess.run(  # noqa: S603 our own module, an interpreter the user named
        [python, "-m", "exporting.theirs", str(folder), str(out)],
        cwd=HERE,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not out.is_file():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise SystemExit(f"TRL's side ended with {done.returncode}:\n{tail}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def problems(found: dict[str, Any]) -> list[str]:
    """Which checks of a file failed."""
    out = [name for name in CHECKS if found.get(name) is False]
    counts = {found["written"], found["rows"], found.get("prepared", found["rows"])}
    return out + (["rows"] if len(counts) > 1 else [])


def markdown(rows: list[dict[str, Any]], refused: dict[str, Counter[str]]) -> str:
    """The table."""
    out = ["| format | shape | rows | no place for | loaded by datasets | prepared by TRL |"]
    out.append("|---|---|---|---|---|---|")
    for found in rows:
        left = refused[f"{found['target']}-{found['shape']}"]
        wrong = problems(found)
        loaded = "not as written" if {"same", "rows"} & set(wrong) else "as written"
        trl = ", ".join(wrong) or "all of it" if "prepared" in found else ""
        reasons = ", ".join(f"{reason} {count}" for reason, count in left.most_common())
        cells = (found["target"], found["shape"], str(found["written"]), reasons, loaded, trl)
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
