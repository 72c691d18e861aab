"""What a run costs, by plain arithmetic: operations (memory: `palate.model.memory`).

    F = 2·N_b·T + 2·N_h·H + 4·L·a·S

are the operations of one forward pass: N_b weights in the body's matrix products, T unique
tokens; N_h = vocabulary × width, H tokens that reach the head; L layers, a = heads × head
dimension, S causal (query, key) pairs. A training step costs 3F when every weight is trained
and about 2F with an adapter, whose frozen weights need no gradient of their own.

Estimates, not measurements: a mixture of experts is counted as if all experts worked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from palate.config import AdapterConfig
from palate.tokens.divide import Price
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, cut
from palate.tokens.tree import Forest, build_forest

# Steps that are laid out to count their tokens; longer runs are scaled up from these.
_STEPS_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Matrix:
    """One linear layer of the body."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A model's sizes: `parameters` counts tied weights once; `matrices` leave out the head.

    `attention` is heads × head dimension, `keys` key-value heads × head dimension, `inner`
    the width of the feed-forward layers.
    """

    parameters: int
    body: int
    vocabulary: int
    width: int
    tied: bool
    layers: int
    attention: int
    keys: int
    inner: int
    matrices: tuple[Matrix, ...] = ()

    @property
    def head(self) -> int:
        """N_h: weights of the output head."""
        return self.vocabulary * self.width

    def adapter(self, config: AdapterConfig) -> int:
        """Weights of the LoRA matrices: rank × (inputs + outputs) of every adapted layer."""
        return sum(config.rank * (m.inputs + m.outputs) for m in self.adapted(config.targets))

    def adapted(self, targets: str | list[str]) -> list[Matrix]:
        """The layers that peft adapts: all of them, those whose name ends so, or fits a pattern."""
        if targets == "all-linear":
            return list(self.matrices)
        if isinstance(targets, str):
            return [m for m in self.matrices if re.fullmatch(targets, m.name)]
        return [m for m in self.matrices if any(f".{m.name}".endswith(f".{t}") for t in targets)]


def anatomy_of(config: Any, *, trust_remote_code: bool = False) -> Anatomy:
    """The sizes of the model that a transformers config describes; no weight is allocated."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    head = model.get_output_embeddings()
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    outside = embeddings | {id(head.weight)}
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    matrices = tuple(
        Matrix(name, *_in_out(module))
        for name, module in model.named_modules()
        if _is_matrix(module, head)
    )
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    return Anatomy(
        parameters=sum(p.numel() for p in model.parameters()),
        body=sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in outside),
        vocabulary=text.vocab_size,
        width=text.hidden_size,
        tied=id(head.weight) in embeddings,
        layers=text.num_hidden_layers,
        attention=heads * size,
        keys=kv_heads * size,
        inner=inner or 4 * text.hidden_size,
        matrices=matrices,
    )


def price_of(model: Any) -> Price:
    """F's three factors of a model as it is loaded, adapters and weights in 4 bits included."""
    text, head = model.config.get_text_config(), model.get_output_embeddings()
    body = sum(a * b for a, b in (_in_out(m) for m in model.modules() if _is_matrix(m, head)))
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Price(
        token=2 * body,
        scored=2 * text.vocab_size * text.hidden_size,
        pair=4 * text.num_hidden_layers * heads * size,
    )


def _is_matrix(module: nn.Module, head: nn.Module) -> bool:
    linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    return linear and module is not head


def _in_out(module: nn.Module) -> tuple[int, int]:
    """GPT-2's Conv1D keeps its weight as [inputs, outputs], and 4 bits are packed anyhow."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    first, second = module.weight.shape  # type: ignore[misc]
    return first, second


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of a pass: T `unique`, H `scored`, S causal `pairs`, and what others compute.

    `path` counts every branch by itself, `padded` each row filled up to the longest of its
    micro-batch; `computed` is what the layout computes, `padded` where nothing is shared.
    """

    unique: float = 0
    scored: float = 0
    pairs: float = 0
    computed: float = 0
    path: float = 0
    padded: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))

    def times(self, factor: float) -> Work:
        """The same work, so many times."""
        return Work(*(getattr(self, n) * factor for n in self.__slots__))


def work_of(forest: Forest, *, share: bool = True) -> Work:
    """Count one forest: a segment of n tokens below p others has n·p + n(n + 1)/2 pairs.

    With `share=False` it will be computed as padded rows.
    """
    ends = [s.position + s.length for s in forest.segments]
    padded = forest.branches * max(ends)
    return Work(
        unique=forest.unique_tokens,
        scored=int(forest.hidden_H.shape[0]),
        pairs=sum(s.length * s.position + s.length * (s.length + 1) // 2 for s in forest.segments),
        computed=forest.unique_tokens if share else padded,
        path=forest.path_tokens,
        padded=padded,
    )


@dataclass(frozen=True, slots=True)
class RunWork:
    """The work of a run: all its steps, one epoch of them, and the largest micro-batch."""

    steps: int
    total: Work
    epoch: Work
    largest: Work


def run_work(
    examples: Sequence[Rendered], sampler: Sampler, steps: int, budget: int, *, share: bool
) -> RunWork:
    """Lay out the run's steps, evenly spaced ones of a long run, and count their tokens."""
    looked_at = sorted({i * steps // _STEPS_LOOKED_AT for i in range(_STEPS_LOOKED_AT)})
    total, largest = Work(), Work()
    for step in looked_at:
        for work in micro_works(examples, sampler.batch(step), budget, share=share):
            total += work
            largest = max(largest, work, key=lambda w: w.unique)
    one = total.times(1 / len(looked_at))
    return RunWork(steps, one.times(steps), one.times(sampler.steps_per_epoch), largest)


def micro_works(
    examples: Sequence[Rendered], rows: Sequence[int], budget: int, *, share: bool
) -> list[Work]:
    """The work of each micro-batch of one step."""
    return [
        micro_work(examples, part, share=share) for part in cut(examples, rows, budget, share=share)
    ]


def micro_work(examples: Sequence[Rendered], part: Sequence[int], *, share: bool) -> Work:
    """The work of one micro-batch."""
    branches = [branch for row in part for branch in examples[row].branches]
    return work_of(build_forest(branches, share=share), share=share)


def forward_flops(anatomy: Anatomy, work: Work) -> float:
    """F, the operations of one forward pass."""
    body = 2 * anatomy.body * work.unique
    head = 2 * anatomy.head * work.scored
    attention = 4 * anatomy.layers * anatomy.attention * work.pairs
    return body + head + attention


def training_flops(anatomy: Anatomy, work: Work, *, lora: bool) -> float:
    """Forward and backward: 2F with an adapter, 3F when every weight is trained."""
    return (2 if lora else 3) * forward_flops(anatomy, work)
