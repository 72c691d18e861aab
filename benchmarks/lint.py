"""How often lint raises an alarm for nothing, and how often it misses a planted fault.

    python benchmarks/lint.py                            # 40 clean worlds, 20 of each fault
    python benchmarks/lint.py --clean 5 --planted 2 --only length surface.bold

The data are those of the tests (`tests/curate/lint/worlds.py` and `faults.py`), with seeds that no
test uses: 700 pairs, 100 of them held out, or as many single answers with thumbs. A fault is found
if its check raises a finding; what else is raised in the same data counts as a false alarm. For
`label-noise`, 15 % of the labels are turned round where words decide nearly all (1,300 pairs).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the made-up data are the tests'

if TYPE_CHECKING:
    from tests.curate.lint.faults import Sides

FIRST_SEED = 2000
"""The tests were written with the seeds from 0 on at hand, and so were the thresholds."""
CLEAN_PAIRS, CLEAN_THUMBS = "clean pairs", "clean thumbs"
WRONG_LABELS = "label-noise"
IMPLIED = {WRONG_LABELS: {"words"}}
"""Wrong labels can be told only where words decide, which is a finding of its own."""


def worlds(clean: int, planted: int, only: Sequence[str]) -> Iterator[tuple[str, Sides]]:
    """(what is in it, data): seed by seed, because all faults of a seed share their clean rows."""
    from tests.curate.lint import worlds as made
    from tests.curate.lint.faults import PLANTED, taste_in_words

    def wrong_labels(seed: int) -> Sides:
        return made.examples(taste_in_words(made.clean(seed, 1200), 0.15, 0.9))

    faults = {**PLANTED, WRONG_LABELS: wrong_labels}
    for seed in range(FIRST_SEED, FIRST_SEED + max(clean, planted)):
        if seed < FIRST_SEED + clean:
            yield CLEAN_PAIRS, made.examples(made.clean(seed))
            yield CLEAN_THUMBS, made.thumbs(made.clean(seed))
        if seed < FIRST_SEED + planted:
            for name in only or faults:
                yield name, faults[name](seed)


def line(name: str, found: Sequence[frozenset[str]]) -> str:
    """A row of the table: what was planted, in how many found, and what else was raised."""
    wrong = [one - {name} - IMPLIED.get(name, set()) for one in found]
    others = Counter(check for one in wrong for check in one)
    raised = sum(map(bool, wrong))
    listed = ", ".join(f"`{check}` {number}" for check, number in sorted(others.items()))
    false = f"{raised} of {len(found)}{f': {listed}' if listed else ''}"
    if name in {CLEAN_PAIRS, CLEAN_THUMBS}:
        return f"| {name} | – | {false} |\n"
    return f"| `{name}` | {sum(name in one for one in found)} of {len(found)} | {false} |\n"


def main() -> None:
    """Print the table."""
    from palate.curate.lint import lint

    parser = argparse.ArgumentParser()
    parser.add_argument("--clean", type=int, default=40)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=(), metavar="FAULT")
    options = parser.parse_args()
    begun = time.process_time()
    found: dict[str, list[frozenset[str]]] = {}
    for name, sides in worlds(options.clean, options.planted, options.only):
        checks = frozenset(finding.check for finding in lint(*sides).findings)
        found.setdefault(name, []).append(checks)
    sys.stdout.write("| planted | found | something else raised |\n|---|---|---|\n")
    for name, each in found.items():
        sys.stdout.write(line(name, each))
    sys.stdout.write(f"{time.process_time() - begun:.0f} s of processor time\n")


if __name__ == "__main__":
    main()
