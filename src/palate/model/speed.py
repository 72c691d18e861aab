"""How fast training computes here, measured: a slice of the model, trained for a moment.

What whole steps reach of the speed of matrix products alone differs too much to be assumed: from a
fifth to three quarters (docs/performance.md). So a Llama of the model's width and one or two of
its layers, with as small a part of its vocabulary, takes steps over tokens of the recipe's own.

Taken to be as fast: other families' layers, weights in 4 bits, an adapter's choice of matrices. A
model wider than 2,048 has a slice as wide as that, of its proportions. On a GPU the slice runs
without the tree's own kernel and without compiled layers, so that a run is faster.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.cost import Anatomy, anatomy_of, training_flops, work_of
from palate.model.fused import fuse, suits
from palate.model.load import to_compute
from palate.model.peak import wait_for
from palate.model.policy import Policy, Precision
from palate.tokens.tree import Branch, Forest, build_forest

_LARGE = 2**24  # weights of a layer, above which one of them is enough
_WIDEST = 2048
_OPERATIONS = 2e11  # of a step, at most: some seconds of a slow core
_TOKENS = 2048  # and no more tokens than so
_STEPS = 3  # timed, after one that is not
_HEAD = 64  # columns of an attention head, where the width allows it
_SECONDS = 10.0  # no further step after so long


def measure_speed(
    anatomy: Anatomy,
    branches: Sequence[Branch],
    precision: Precision,
    device: str = "cpu",
    *,
    share: bool = True,
    lora: AdapterConfig | None = None,
    fused: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations a second of a training step over `branches`, the best of three.

    With `share` they are laid out as a tree; they are shortened to what takes some seconds. `lora`
    is the adapter, None for training of every weight; `fused` whether the model's layers have the
    short forward where the processor has it. What else the machine does meanwhile counts.
    """
    config = _slice(anatomy)
    enough = tokens_enough(anatomy)
    if work_of(build_forest(branches, share=share), share=share).computed > enough:
        branches = shortened(branches, enough)
    small = [Branch([i % config.vocab_size for i in b.ids], b.mask) for b in branches]
    forest = build_forest(small, share=share).to(torch.device(device))
    adapter = AdapterConfig(kind="full")
    if lora is not None:
        adapter = AdapterConfig(rank=max(1, lora.rank * config.hidden_size // anatomy.width))
    policy = _policy(config, precision, device, adapter, share=share, fused=fused)
    work = work_of(forest, share=share)
    flops = training_flops(anatomy_of(config), work, lora=lora is not None)
    best = fastest(policy, forest, clock)
    del policy
    gc.collect()
    return flops / best


def fastest(policy: Policy, forest: Forest, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of three steps, forward and backward, after one that is not timed."""
    best, began = float("inf"), clock()
    for step in range(1 + _STEPS):
        policy.zero_grad(set_to_none=True)
        start = clock()
        policy(forest).sums_B().sum().backward()
        wait_for(str(policy.device))
        if step:  # the first one builds kernels
            best = min(best, clock() - start)
            if clock() - began > _SECONDS:
                break
    return best


def tokens_enough(anatomy: Anatomy) -> int:
    """So many tokens are measured, at most: the fewer, the larger the slice is."""
    body = anatomy_of(_slice(anatomy)).body
    return min(_TOKENS, int(_OPERATIONS / (6 * body)))


def shortened(branches: Sequence[Branch], most: int) -> list[Branch]:
    """The ends of their prompt and the beginnings of their answers, of `most` tokens together.

    What they share they still share: the same tokens are left out of each prompt.
    """
    prompt = min(_first(branch) for branch in branches)
    drop, rest = max(0, prompt - most // 2), max(1, most // 2 // len(branches))
    return [
        Branch(b.ids[drop : _first(b) + rest], b.mask[drop : _first(b) + rest]) for b in branches
    ]


def _first(branch: Branch) -> int:
    """Where its first supervised token is; its length where none is."""
    return next((i for i, counts in enumerate(branch.mask) if counts), len(branch.ids))


def _slice(anatomy: Anatomy) -> Any:
    """A Llama's config: one or two of the model's layers, and as large a part of its vocabulary."""
    from transformers import LlamaConfig

    layers = 1 if anatomy.body > _LARGE * anatomy.layers else min(2, anatomy.layers)
    width, attention, keys, inner = anatomy.width, anatomy.attention, anatomy.keys, anatomy.inner
    vocabulary = anatomy.vocabulary * layers / anatomy.layers
    if width > _WIDEST:  # powers of two where processors like them
        by = width / _WIDEST
        width, attention, vocabulary = _WIDEST, _power(attention / by), vocabulary / by
        keys = min(attention, max(_HEAD, _power(anatomy.keys / by)))
        inner = max(64, round(inner / by / 64) * 64)
    size = next(n for n in (_HEAD, 32, 16, 8, 4, 2) if not (attention % n or keys % n))
    heads = attention // size
    return LlamaConfig(
        hidden_size=math.ceil(width / heads) * heads,  # a Llama is a multiple of them wide
        num_hidden_layers=layers,
        head_dim=size,
        num_attention_heads=heads,
        num_key_value_heads=keys // size,
        intermediate_size=inner,
        vocab_size=max(2, int(vocabulary)),
        tie_word_embeddings=anatomy.tied,
    )


def _power(value: float) -> int:
    """The nearest power of two, by ratio."""
    return int(2 ** round(math.log2(value)))


def _policy(
    config: Any,
    precision: Precision,
    device: str,
    adapter: AdapterConfig,
    *,
    share: bool,
    fused: bool,
) -> Policy:
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
        model.to(device)
    return made_ready(model, adapter, precision, share=share, fused=fused)


def made_ready(
    model: Any, adapter: AdapterConfig, precision: Precision, *, share: bool, fused: bool = True
) -> Policy:
    """The policy of a model, adapted, in its precision and with the short forward."""
    attach(model, adapter, seed=0)
    to_compute(model, precision)
    policy = Policy(model, layout="tree" if share else "plain", precision=precision).eval()
    if fused and suits(policy.device.type, precision, policy.layout):
        policy.fused = fuse(model)
    return policy
