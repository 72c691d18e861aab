"""How evenly ranks share a step of real pairs, and what sharing the beginnings loses by it.

    python benchmarks/balance.py                       # the desk's traffic
    python benchmarks/balance.py --data dpo_en_demo.json

For steps of 32 and 64 pairs on 2, 4 and 8 ranks: the operations of each rank's micro-batches, by
their forests (2·N_b·T + 2·N_h·H + 4·L·a·S of the model), and how far the dearest rank is above the
mean of all, at the mean and at most; the unique tokens that all ranks compute, to those of one
process; and the milliseconds that the division takes. Beside it, the division into runs of
neighbours by their unique tokens alone, which it replaces.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAFFIC = ROOT / "examples" / "support_desk" / "traffic.jsonl"
BUDGET, LONGEST, STEPS = 4096, 1024, 16
SIZES, RANKS = (32, 64), (2, 4, 8)


def main() -> None:
    """Print the table."""
    from palate.machine import calm_threads

    calm_threads()
    parser = argparse.ArgumentParser(description="Balance of ranks on real pairs.")
    parser.add_argument("--data", default=str(TRAFFIC))
    parser.add_argument("--model", default="smollm2-135m-instruct")
    args = parser.parse_args()
    _measure(args.data, args.model)


def _measure(data: str, model: str) -> None:
    from palate.config import build_config
    from palate.curate.prepare import prepare
    from palate.model.cost import price_of
    from palate.model.load import load
    from palate.tokens.divide import TOKENS, _Costs, _runs, divide
    from palate.tokens.sampler import Sampler
    from palate.train.setup import renderer_without_weights

    raw = {"model": model, "data": {"path": data, "heldout": 0, "max_length": LONGEST}}
    config = build_config(raw)
    renderer = renderer_without_weights(config)
    kept = prepare(config.data, 0, renderer.check).train
    examples = [renderer.render(example.oriented("pair")) for example in kept]
    price = price_of(load(model).model)
    sys.stdout.write(f"{len(examples)} pairs, {price}\n")

    def runs(rows: Sequence[int], parts: int) -> list[list[int]]:
        order = sorted(rows, key=lambda i: (tuple(examples[i].branches[0].ids), i))
        costs = _Costs([examples[row] for row in order], TOKENS, share=True)
        return [[order[place] for place in places] for places in _runs(costs, parts)]

    def priced(rows: Sequence[int], parts: int) -> list[list[int]]:
        return divide(examples, rows, parts, price=price)

    for size in SIZES:
        sampler = Sampler(len(examples), size, seed=0)
        full = [step for step in range(4 * STEPS) if len(sampler.batch(step)) == size][:STEPS]
        steps = [sampler.batch(step) for step in full]
        for parts in RANKS:
            for name, how in (("by cost", priced), ("runs", runs)):
                _tell(
                    f"{size:>3} pairs {parts} ranks {name:>8}", examples, steps, parts, how, price
                )


def _tell(
    title: str,
    examples: Sequence[object],
    steps: Sequence[Sequence[int]],
    parts: int,
    how: Callable[[Sequence[int], int], list[list[int]]],
    price: object,
) -> None:
    from palate.model.cost import Work, micro_works

    def work(rows: Sequence[int]) -> Work:
        return sum(micro_works(examples, rows, BUDGET, share=True), Work())  # type: ignore[arg-type]

    above, tokens, alone, seconds = [], 0.0, 0.0, 0.0
    for rows in steps:
        begun = time.perf_counter()
        division = how(rows, parts)
        seconds += time.perf_counter() - begun
        works = [work(part) for part in division]
        costs = [
            price.token * w.unique + price.scored * w.scored + price.pair * w.pairs  # type: ignore[attr-defined]
            for w in works
        ]
        above.append(max(costs) * parts / sum(costs) - 1)
        tokens += sum(w.unique for w in works)
        alone += work(rows).unique
    sys.stdout.write(
        f"{title}: {statistics.mean(above):6.1%} at the mean, {max(above):6.1%} at most, "
        f"{tokens / alone - 1:5.1%} more unique tokens, {1e3 * seconds / len(steps):.0f} ms\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
