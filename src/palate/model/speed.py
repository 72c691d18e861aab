"""How fast training computes here, measured: a slice of the model, trained for a moment.

What whole steps reach of the speed of matrix products alone differs too much to be assumed: from a
fifth to three quarters (docs/performance.md). So a Llama of the model's width and few of its
layers, with as small a part of its vocabulary, takes steps over tokens of the recipe's own. Other
families' layers, quantised weights and an adapter's choice of matrices are taken to be as fast.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.cost import Anatomy, anatomy_of, training_flops, work_of
from palate.model.fused import fuse, suits
from palate.model.load import to_compute
from palate.model.peak import wait_for
from palate.model.policy import Policy, Precision
from palate.tokens.tree import Branch, build_forest

_LARGE = 2**24  # weights of a layer, above which one of them is enough
_WIDEST = 2048  # above it a narrower slice stands for the model: it is as fast, and always fits
_STEPS = 3  # timed, after one that is not
_HEAD = 64  # columns of an attention head, where the width allows it
_SECONDS = 10.0  # no further step after so long


def measure_speed(
    anatomy: Anatomy,
    branches: list[Branch],
    precision: Precision,
    device: str = "cpu",
    *,
    share: bool = True,
    lora: AdapterConfig | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations a second of a training step over `branches`, the best of three.

    With `share` they are laid out as a tree. `lora` is the adapter, None for training of every
    weight. What else the machine does meanwhile counts: the figure is a lower bound.
    """
    config = _slice(anatomy)
    small = [replace(b, ids=[i % config.vocab_size for i in b.ids]) for b in branches]
    forest = build_forest(small, share=share).to(torch.device(device))
    policy = _policy(config, precision, device, share=share, lora=lora)
    work = work_of(forest, share=share)
    flops = training_flops(anatomy_of(config), work, lora=lora is not None)
    best, began = float("inf"), clock()
    for step in range(1 + _STEPS):
        policy.zero_grad(set_to_none=True)
        start = clock()
        policy(forest).sums_B().sum().backward()
        wait_for(device)
        if step:  # the first one builds kernels
            best = min(best, clock() - start)
            if clock() - began > _SECONDS:
                break
    del policy
    gc.collect()
    return flops / best


def _slice(anatomy: Anatomy) -> Any:
    """A Llama's config: one or two of the model's layers, and as large a part of its vocabulary."""
    from transformers import LlamaConfig

    layers = 1 if anatomy.body > _LARGE * anatomy.layers else min(2, anatomy.layers)
    narrower = math.ceil(anatomy.width / _WIDEST)
    size = next(
        n for n in (_HEAD, 32, 16, 8, 4, 2) if not (anatomy.attention % n or anatomy.keys % n)
    )
    keys = max(1, anatomy.keys // size // narrower)
    heads = keys * (anatomy.attention // anatomy.keys)
    return LlamaConfig(
        hidden_size=anatomy.width // narrower // heads * heads,  # a Llama is a multiple wide
        num_hidden_layers=layers,
        head_dim=size,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        intermediate_size=anatomy.inner // narrower,
        vocab_size=max(2, anatomy.vocabulary * layers // anatomy.layers),
        tie_word_embeddings=anatomy.tied,
    )


def _policy(
    config: Any, precision: Precision, device: str, *, share: bool, lora: AdapterConfig | None
) -> Policy:
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
        model.to(device)
    kind = AdapterConfig(kind="full") if lora is None else AdapterConfig(rank=lora.rank)
    attach(model, kind, seed=0)
    to_compute(model, precision)
    policy = Policy(model, layout="tree" if share else "plain", precision=precision).eval()
    if suits(device, precision, policy.layout):
        policy.fused = fuse(model)
    return policy
