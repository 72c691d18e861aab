"""The compiled kernels against the same computation in torch, taking turns in one process.

    python benchmarks/kernels.py                # SmolLM2's shapes, a forest of random pairs
    python benchmarks/kernels.py --rounds 9

A forest of eight pairs (prompts of 250 tokens, answers of 180 and 220) is computed in bf16,
forward and backward: one layer's attention, the head over the answers' tokens, and LoRA DPO's
whole model with layers fused and as transformers wrote them. Times are medians over the rounds; a
busy machine slows both, so compare within a run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS, PAIRS, PROMPT, ANSWERS = 5, 8, 250, (180, 220)
# SmolLM2-135M
HEADS, KV_HEADS, WIDTH, HIDDEN, VOCABULARY = 9, 3, 64, 576, 49_152


def main() -> None:
    """Time each pair of forms in turns and print a table."""
    parser = argparse.ArgumentParser(description="Compiled kernels against torch.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-step", action="store_true", help="leave out the whole step")
    args = parser.parse_args()
    from palate.machine import calm_threads, threads, tune_allocator

    calm_threads()
    tune_allocator()
    import torch

    from palate.model.native.build import native

    torch.set_num_threads(threads())
    if native().library is None:
        sys.exit(f"there are no compiled kernels here: {native().reason}")
    torch.manual_seed(0)
    forest = make_forest()
    sys.stdout.write(
        f"{forest.unique_tokens} unique tokens, {len(forest.hidden_H)} scored\n"
        "what | torch, ms | compiled, ms | times faster\n"
    )
    cases = [("attention of a layer", attention(forest)), ("head", head(forest))]
    if not args.no_step:
        cases.append(("forward and backward of the model", step(forest)))
    for name, (plain, compiled) in cases:
        slow, fast = turns(plain, compiled, args.rounds)
        sys.stdout.write(f"{name} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f}\n")
        sys.stdout.flush()


def make_forest() -> Any:
    """Random pairs that share nothing but their own prompt."""
    import torch

    from palate.tokens.tree import Branch, build_forest

    def tokens(count: int) -> list[int]:
        return torch.randint(0, VOCABULARY, (count,)).tolist()

    branches = []
    for _ in range(PAIRS):
        prompt = tokens(PROMPT)
        for size in ANSWERS:
            mask = [False] * PROMPT + [True] * size
            branches.append(Branch(prompt + tokens(size), mask))
    return build_forest(branches)


def turns(
    first: Callable[[], None], second: Callable[[], None], rounds: int
) -> tuple[float, float]:
    """Median milliseconds of each, after one turn to warm up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for run, times in zip((first, second), taken, strict=True):
            began = time.perf_counter()
            run()
            if turn:
                times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken[0]), statistics.median(taken[1])


def attention(forest: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Tiles in torch, and in C++."""
    import torch

    from palate.model.native.attention import layout_of, native_attention
    from palate.model.tiles import Scores, plan_tiles, tiled_attention

    size, scores = forest.unique_tokens, Scores(WIDTH**-0.5)
    parts = [
        torch.randn(heads, size, WIDTH).bfloat16().requires_grad_()
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    grad = torch.randn(size, HEADS, WIDTH).bfloat16()
    tiles, layout = plan_tiles(forest, None), layout_of(forest, None)
    return (
        lambda: tiled_attention(*parts, None, tiles, scores).backward(grad),
        lambda: native_attention(*parts, layout, scores).backward(grad),
    )


def head(forest: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Logits in one piece, and none, with a frozen head."""
    import torch
    from torch.nn import functional

    from palate.model.head import target_logps
    from palate.model.native.head import head_logps

    hidden = torch.randn(len(forest.hidden_H), HIDDEN, requires_grad=True)
    matrix = torch.randn(VOCABULARY, HIDDEN).bfloat16()

    def plain() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            target_logps(
                lambda x: functional.linear(x, matrix), hidden, forest, VOCABULARY, 2**40
            ).sum().backward()

    def compiled() -> None:
        head_logps(hidden, matrix, forest.rows_P, forest.targets_P).sum().backward()

    return plain, compiled


def step(forest: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """The model's log-probs and LoRA's gradients, layers as transformers wrote them and fused.

    Attention and head are compiled in both.
    """
    from palate.config import AdapterConfig
    from palate.model.adapters import attach
    from palate.model.fused import fuse
    from palate.model.load import SMOLLM2, load, to_compute
    from palate.model.policy import Policy

    def run(fused: bool) -> Callable[[], None]:
        model = load(SMOLLM2).model
        attach(model, AdapterConfig(), 0)
        to_compute(model, "bf16")
        if fused:
            fuse(model)
        policy = Policy(model, precision="bf16")
        return lambda: policy(forest).sums_B().sum().backward()

    return run(fused=False), run(fused=True)


if __name__ == "__main__":
    main()
