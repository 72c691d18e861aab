"""Our losses against TRL's own, on the same random token log-probs.

    python benchmarks/parity.py
    python benchmarks/parity.py --seed 7 --out parity.md

TRL has an environment of its own, made on the first call (`--trl-env FOLDER` takes one that is
there). Its trainers compute their losses there from given log-probs; values and gradients are
compared. Exits with 1 where they differ and docs/parity.md does not say why.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agreement.cases import ABSENT, CASES, FAR
from agreement.material import Material, draw, far
from agreement.ours import compute
from agreement.table import compare, markdown
from racing.environment import trl_python

HERE = Path(__file__).resolve().parent


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare our losses with TRL's.")
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the random log-probs")
    add("--trl-env", help="folder of an environment that has TRL")
    add("--torch-index", help="where pip finds torch for TRL's environment")
    add("--out", type=Path, help="file for the table")
    return parser.parse_args()


def main() -> None:
    """Draw, compute on both sides, compare."""
    told = arguments()
    plain, ends = draw(told.seed), far(FAR)
    theirs = from_trl(trl_python(told.trl_env, told.torch_index, say), plain, ends)
    rows = [
        compare(case, compute(case, ends if case.far else plain), found)
        for case, found in zip(CASES, theirs["found"], strict=True)
    ]
    text = markdown(rows, ABSENT)
    say(f"TRL {theirs['trl']}, torch {theirs['torch']}, seed {told.seed}\n\n{text}")
    if told.out:
        told.out.write_text(text + "\n", encoding="utf-8")
    wrong = [row.case.name for row in rows if row.wrong]
    if wrong:
        sys.exit(f"not as docs/parity.md says: {', '.join(wrong)}")


def from_trl(python: str, plain: Material, ends: Material) -> dict[str, Any]:
    """What TRL's process found; raises `SystemExit` with the end of its output."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("plain.json", "far.json", "found.json")]
        plain.write(files[0])
        ends.write(files[1])
        done = subprocess.run(  # noqa: S603 our own module, an interpreter the user named
            [python, "-m", "agreement.theirs", *map(str, files)],
            cwd=HERE,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not files[2].is_file():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise SystemExit(f"TRL's side ended with {done.returncode}:\n{tail}")
        found: dict[str, Any] = json.loads(files[2].read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    main()
