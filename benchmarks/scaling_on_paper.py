"""What models of usual sizes would need on 80 and 141 GB GPUs: the tables of docs/scaling.md.

    python benchmarks/scaling_on_paper.py

Nothing is run and no weights exist: `palate.model.sharding` and `palate.model.traffic` from each
model's sizes alone. The shapes are those of SmolLM2-1.7B, Llama-3.2-3B, Llama-3-8B, Qwen3-14B,
Qwen3-32B and Llama-3-70B.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from transformers import LlamaConfig

from palate.config import AdapterConfig
from palate.model.cost import Anatomy, Work, anatomy_of
from palate.model.head import SHARE_OF_FREE
from palate.model.sharding import Kind, RankMemory, division, rank_memory
from palate.model.traffic import Cluster, microbatch_traffic, pace, tokens_that_hide

GIB = 2**30
# width, layers, query heads, key-value heads, head dimension, feed-forward width, vocabulary, tied
SHAPES: dict[str, tuple[int, int, int, int, int, int, int, bool]] = {
    "1.7B": (2048, 24, 32, 32, 64, 8192, 49152, True),
    "3B": (3072, 28, 24, 8, 128, 8192, 128256, True),
    "8B": (4096, 32, 32, 8, 128, 14336, 128256, False),
    "14B": (5120, 40, 40, 8, 128, 17408, 151936, False),
    "32B": (5120, 64, 64, 8, 128, 25600, 151936, False),
    "70B": (8192, 80, 64, 8, 128, 28672, 128256, False),
}
FULL, LORA = AdapterConfig(kind="full"), AdapterConfig(rank=16)
# Tokens of a rank's micro-batch, and the share of them that reaches the head.
TOKENS, SCORED = 8192, 0.5
SEQUENCE = 2048  # tokens that see each other, for attention's share of the time


@functools.cache
def anatomy(name: str) -> Anatomy:
    """The sizes of a shape."""
    width, layers, heads, keys, size, inner, vocabulary, tied = SHAPES[name]
    return anatomy_of(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=keys,
            head_dim=size,
            tie_word_embeddings=tied,
        )
    )


def work(tokens: int = TOKENS) -> Work:
    """A micro-batch of rows of `SEQUENCE` tokens."""
    pairs = tokens * (SEQUENCE + 1) / 2
    return Work(unique=tokens, scored=SCORED * tokens, pairs=pairs, computed=tokens)


def needs(
    name: str, adapter: AdapterConfig, kind: Kind, ranks: int, gigabytes: int, tokens: int
) -> RankMemory:
    """One rank, with layers computed again in the backward pass."""
    return rank_memory(
        anatomy(name),
        work(tokens),
        adapter,
        "bf16",
        division(kind, ranks, 8),
        recompute=True,
        logits_budget=int(SHARE_OF_FREE * gigabytes * GIB),
    )


def kind_of(ranks: int) -> Kind:
    """One GPU has nothing to divide."""
    return "ddp" if ranks == 1 else "fsdp"


def largest(ranks: int, gigabytes: int) -> tuple[str, float, float] | None:
    """The largest shape that full fine-tuning fits, at 2,048 tokens a micro-batch.

    With the GiB of a step's peak, and those of rank 0's host while the model is loaded.
    """
    found = None
    for name in SHAPES:
        one = needs(name, FULL, kind_of(ranks), ranks, gigabytes, 2048)
        if max(one.total, one.loading) <= gigabytes * GIB:
            found = name, one.total / GIB, one.host / GIB
    return found


def table(heads: list[str], rows: list[list[Any]]) -> None:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    sys.stdout.write("".join(f"| {' | '.join(map(str, line))} |\n" for line in lines) + "\n")


def parts(memory: RankMemory) -> list[str]:
    """A rank's GiB by purpose."""
    transient = memory.gathered + memory.unreduced + memory.rounded
    sizes = [
        memory.weights,
        memory.gradients + memory.moments,
        transient,
        memory.activations,
        memory.logits,
        memory.total,
        memory.loading,
    ]
    return [f"{size / GIB:.1f}" for size in sizes]


PARTS = ["weights", "gradients, moments", "in flight", "activations", "logits", "peak", "to load"]


def main() -> None:
    """All tables."""
    sizes = [
        [name, f"{one.parameters / 1e9:.2f}", f"{one.adapter(LORA) / 1e6:.0f}"]
        for name, one in ((name, anatomy(name)) for name in SHAPES)
    ]
    table(["shape", "weights, 10⁹", "LoRA (r = 16), 10⁶"], sizes)

    lora = [("ddp", 1, 80), ("ddp", 8, 80), ("fsdp", 8, 80), ("fsdp", 8, 24)]
    rows = [
        [f"{kind}, {ranks} × {size} GB", *parts(needs("8B", LORA, kind, ranks, size, TOKENS))]
        for kind, ranks, size in lora
    ]
    table(["8B, LoRA", *PARTS], rows)  # type: ignore[arg-type]

    rows = []
    for size in (80, 141):
        for ranks in (1, 8, 64):
            name, peak, host = largest(ranks, size) or ("none", 0.0, 0.0)
            rows.append([f"{ranks} × {size} GB", name, f"{peak:.0f}", f"{host:.0f}"])
    table(["GPUs", "largest", "GiB of a rank", "GiB of rank 0's host"], rows)

    rows = []
    for adapter, title in ((FULL, "full"), (LORA, "LoRA")):
        for kind, ranks in (("fsdp", 64), ("hybrid", 64), ("fsdp", 512), ("hybrid", 512)):
            one = needs("70B", adapter, kind, ranks, 80, TOKENS)  # type: ignore[arg-type]
            rows.append([f"{title}, {kind}, {ranks}", *parts(one)])
    table(["70B", *PARTS], rows)

    rows = []
    for adapter, title in ((FULL, "full"), (LORA, "LoRA")):
        for kind, ranks in (("fsdp", 64), ("hybrid", 64), ("fsdp", 512), ("hybrid", 512)):
            rows.append([f"{title}, {kind}, {ranks}", *pacing(adapter, kind, ranks)])  # type: ignore[arg-type]
    heads = [
        "GB sent inside",
        "between",
        "s sending",
        "s computing",
        "hidden",
        "tokens that hide it",
    ]
    table(["70B, a micro-batch", *heads, "of all ranks"], rows)


def pacing(adapter: AdapterConfig, kind: Kind, ranks: int) -> list[str]:
    """What a micro-batch of 70B sends, and how long that takes beside the computing."""
    shared, cluster, one = division(kind, ranks, 8), Cluster(), anatomy("70B")
    sent = microbatch_traffic(one, adapter, "bf16", shared)
    found = pace(one, work(), adapter, "bf16", shared, cluster, recompute=True)
    enough = tokens_that_hide(one, adapter, "bf16", shared, cluster, scored=SCORED, recompute=True)
    return [
        f"{sent.inside / 1e9:.0f}",
        f"{sent.between / 1e9:.0f}",
        f"{found.exchange:.2f}",
        f"{found.compute:.2f}",
        "yes" if found.hidden else "no",
        f"{enough:,.0f}",
        f"{enough * ranks:,.0f}",
    ]


if __name__ == "__main__":
    main()
