"""|h| at policy = reference in bf16: what rounding alone does to the first loss.

    python benchmarks/rounding.py

The reference's log-probs come from one packing (all examples sorted, as the cache has them),
the policy's from another (steps of eight in a run's order). In exact arithmetic every
h = a − b is 0. Printed for the tree and for padded rows, on the support desk's pairs.
"""

from __future__ import annotations

import sys
from pathlib import Path

TRAFFIC = Path(__file__).resolve().parents[1] / "examples" / "support_desk" / "traffic.jsonl"
PAIRS, STEP, BUDGET = 64, 8, 4096


def main() -> None:
    """Measure both layouts and print a line for each."""
    from palate.machine import calm_threads, threads, tune_allocator

    calm_threads()
    tune_allocator()
    import torch

    from palate.config import DataConfig
    from palate.curate.prepare import prepare
    from palate.model.load import SMOLLM2, load, to_compute
    from palate.model.place import pick_precision
    from palate.model.policy import Layout, Policy
    from palate.model.score import score, score_rows
    from palate.tokens.render import Renderer
    from palate.tokens.sampler import Sampler

    torch.set_num_threads(threads())
    loaded = load(SMOLLM2)
    loaded.model.requires_grad_(False)
    precision = pick_precision("auto", "cpu")
    to_compute(loaded.model, precision)
    renderer = Renderer(loaded.tokenizer, end_ids=loaded.end_ids)
    data = DataConfig(path=str(TRAFFIC), heldout=0, max_pairs=PAIRS)
    examples = [renderer.render(e.oriented("pair")) for e in prepare(data, 0).train]
    sampler = Sampler(len(examples), STEP, seed=0)
    layouts: tuple[Layout, ...] = ("tree", "plain")
    for layout in layouts:
        policy = Policy(loaded.model, layout=layout, precision=precision)
        cached = score(policy, examples, BUDGET)
        sizes = []
        for step in range(sampler.steps_per_epoch):
            for row, values in score_rows(policy, examples, sampler.batch(step)).items():
                difference = values.double() - cached[row].double()
                chosen = sum(examples[row].branches[0].mask)
                sizes.append(abs(float(difference[:chosen].sum() - difference[chosen:].sum())))
        sizes.sort()
        sys.stdout.write(
            f"{layout} in {precision}: mean |h| {sum(sizes) / len(sizes):.3f}, largest "
            f"{sizes[-1]:.3f} nats over {len(sizes)} pairs\n"
        )


if __name__ == "__main__":
    main()
