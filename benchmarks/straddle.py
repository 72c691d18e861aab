"""How many near-duplicates a split by prompt puts on both sides, on public files.

    python benchmarks/straddle.py                       # the files of ../shared/data
    python benchmarks/straddle.py my.jsonl other.csv    # yours: any format, or rows with a prompt

For each file: its distinct prompts; the clusters of more than one prompt, and how many prompts are
in them; the size of the largest; and of the prompts that a split by prompt holds out (a tenth, mean
over five seeds), the share that has a near-duplicate in training. With `split_by: cluster` that
share is 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
FILES = (
    "dpo_en_demo.json",
    "kto_en_demo.json",
    "polite_pairs.json",
    "pandalm_testset.json",
    "gsm8k_train.jsonl",
    "banking77_train.csv",
    "ifeval_prompts.jsonl",
    "xstest_prompts.csv",
)
HELDOUT, SEEDS = 0.1, range(5)


def prompts(path: Path) -> Iterator[str]:
    """The prompt of each row."""
    from palate.curate.contamination import prompts_in

    for _, text in prompts_in(path):
        yield text


def leaked(texts: Sequence[str], groups: Sequence[str]) -> float:
    """Share of held-out prompts with a near-duplicate in training, mean over the seeds."""
    from palate.curate.split import split
    from palate.records import Completion, Example, Message

    answer = (Completion((Message("assistant", "a"),)),)
    examples = [Example((Message("user", text),), answer) for text in texts]
    group_of = {e.prompt_key: group for e, group in zip(examples, groups, strict=True)}
    shares = []
    for seed in SEEDS:
        train, heldout = split(examples, HELDOUT, seed=seed)
        trained = {group_of[example.prompt_key] for example in train}
        leaks = sum(group_of[example.prompt_key] in trained for example in heldout)
        shares.append(leaks / len(heldout))
    return sum(shares) / len(shares)


def row(name: str, texts: Sequence[str]) -> str:
    """One line of the table."""
    from palate.curate.near_duplicates import prompt_groups
    from palate.records import Completion, Example, Message

    distinct = list(dict.fromkeys(texts))
    answer = (Completion((Message("assistant", "a"),)),)
    begun = time.perf_counter()
    groups = prompt_groups([Example((Message("user", text),), answer) for text in distinct])
    seconds = time.perf_counter() - begun
    sizes = [size for size in Counter(groups).values() if size > 1]
    return (
        f"| {name} | {len(distinct):,} | {len(sizes):,} | {sum(sizes):,} | {max([1, *sizes])} "
        f"| {leaked(distinct, groups):.1%} | {seconds:.2f} s |\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Near-duplicates across a split by prompt.")
    parser.add_argument("paths", nargs="*", type=Path)
    found = parser.parse_args().paths or [SHARED / name for name in FILES]
    traffic = ROOT / "examples" / "support_desk" / "traffic.jsonl"
    sys.stdout.write(
        "| file | prompts | clusters | prompts in them | largest | held-out prompts with a "
        "near-duplicate in training | time |\n|---|---|---|---|---|---|---|\n"
    )
    for path in [*found, traffic]:
        sys.stdout.write(row(path.name, list(prompts(path))))


if __name__ == "__main__":
    main()
