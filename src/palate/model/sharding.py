"""The memory of one of several ranks, by plain arithmetic (`palate.model.memory`: of one process).

What a rank holds follows from what `palate.train.shard` does with torch's FSDP2. Each decoder
layer is a unit, and what is left (embedding, head, last norm) is the root unit. Between its uses
a unit is divided over the ranks. It is gathered whole, in the precision it is kept in, before its
forward and before its backward pass, and freed after each, but for the root, which stays gathered
from the beginning of the forward pass to the end of the backward one. Its gradient, fp32, is whole
until it has been summed over the ranks.

Estimates: the rows of a matrix that does not divide evenly are not rounded up, the last norm is
counted with the layers, and a mixture of experts is counted as if all experts worked. What was
measured, and what was not, is in docs/scaling.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palate.config import AdapterConfig
from palate.model.cost import Anatomy, Work
from palate.model.head import LOGITS_BUDGET
from palate.model.memory import ALLOWANCE, LOGITS_COPIES, PROGRAM, activations
from palate.model.policy import Precision

Kind = Literal["ddp", "fsdp", "hybrid"]
# A CUDA context and NCCL's buffers, in bytes: assumed, not measured.
GPU_PROGRAM = 2 * 2**30
# fp32: gradient, and AdamW's two moments, in bytes for each trained weight.
_GRADIENT, _MOMENTS = 4, 8
# What `palate.train.parallel` sums at once where weights are not divided, in bytes.
_BUCKET = 4 * 2**24


@dataclass(frozen=True, slots=True)
class Division:
    """How ranks share a model: it is divided over `shard` ranks, and there are `copies` of that.

    `machine` is the number of ranks of one machine.
    """

    shard: int
    copies: int
    machine: int

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.shard * self.copies


def division(kind: Kind, ranks: int, machine: int) -> Division:
    """`ddp` divides nothing, `fsdp` over all ranks, `hybrid` over those of each machine.

    Raises `ValueError` where machines would have unequal numbers of ranks.
    """
    machine = min(machine, ranks)
    if ranks < 1 or machine < 1 or ranks % machine:
        raise ValueError(f"{ranks} ranks are not a whole number of machines of {machine}")
    shard = {"ddp": 1, "fsdp": ranks, "hybrid": machine}[kind]
    return Division(shard, ranks // shard, machine)


@dataclass(frozen=True, slots=True)
class Unit:
    """What is gathered together: bytes, as they are kept, and how many weights are trained."""

    held: float
    trained: float

    @property
    def gradient(self) -> float:
        """Bytes of its whole gradient."""
        return _GRADIENT * self.trained


def units(anatomy: Anatomy, adapter: AdapterConfig, precision: Precision) -> tuple[Unit, Unit]:
    """The root unit, and one layer (all are taken to be alike).

    Full training keeps 4 bytes a weight. Beside an adapter in bf16 the frozen matrices have 2
    bytes a weight, and the root the embedding in fp32 and the head in bf16, tied or not.
    """
    ends = anatomy.head * (1 if anatomy.tied else 2)
    inside = anatomy.parameters - ends
    if adapter.kind != "lora":
        return Unit(4 * ends, ends), Unit(4 * inside / anatomy.layers, inside / anatomy.layers)
    trained = anatomy.adapter(adapter)
    root, frozen = 4 * ends, 4 * inside
    if precision == "bf16":
        root, frozen = (4 + 2) * anatomy.head, 4 * inside - 2 * anatomy.body
    held = (frozen + 4 * trained) / anatomy.layers
    return Unit(root, 0), Unit(held, trained / anatomy.layers)


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes of one rank at the peak of a step, by purpose.

    `weights`, `gradients` and `moments` are its share, and stay, as does a `reference` that is a
    model of its own (0 here: `palate.model.memory` counts it). The others come and go, and
    `ALLOWANCE` times their sum is counted. `gathered` are the units that are whole at once,
    `unreduced` the gradients that are, or in a forward pass one more layer on its way; `rounded`
    are copies of weights in the compute precision. `loading` is the most that a rank takes before
    its first step: the whole model in fp32, or where it is divided its share and the largest unit,
    which comes to it whole. `host` is what rank 0 takes of its host's memory meanwhile.
    """

    program: float
    weights: float
    gradients: float
    moments: float
    reference: float
    gathered: float
    unreduced: float
    rounded: float
    activations: float
    logits: float
    loading: float
    host: float

    @property
    def stays(self) -> float:
        """What is there all the time."""
        own = self.weights + self.gradients + self.moments
        return self.program + own + self.reference

    @property
    def comes_and_goes(self) -> float:
        """What a micro-batch takes beside it."""
        return self.gathered + self.unreduced + self.rounded + self.activations + self.logits

    @property
    def total(self) -> float:
        """The peak of a step."""
        return self.stays + ALLOWANCE * self.comes_and_goes


def rank_memory(
    anatomy: Anatomy,
    work: Work,
    adapter: AdapterConfig,
    precision: Precision,
    division: Division,
    *,
    recompute: bool = False,
    gpu: bool = True,
    logits_budget: int = LOGITS_BUDGET,
) -> RankMemory:
    """One rank at its largest micro-batch, of `work`; `recompute`: layers are computed again.

    With weights w = 4 (full) or 2 bytes (frozen, bf16), N of them trained, over s ranks:

        stays:      w · all / s  +  4 · N / s  +  8 · N / s
        gathered:   root + 2 layers
        unreduced:  4 · N of the root and of 2 layers, or one layer if that is more
        rounded:    2 · (largest matrix + head), or 2 · adapter
        recomputed: 4 · L · T · D, and one layer's activations

    Two layers, because the next one is on its way while one computes; a third in a forward pass,
    where torch keeps the buffer that a layer arrived in until the next has arrived; two layers'
    gradients, because one is summed over ranks while the next is computed. An undivided model
    (s = 1) gathers nothing, adds the root's new gradient to the one it has, and sums copies of its
    gradients in buckets of 64 MiB or of its largest matrix; full training in bf16 keeps rounded
    copies of all its matrices. A gradient of head and embedding in one is counted three times
    where it is computed: each one's, and their sum.
    """
    root, layer = units(anatomy, adapter, precision)
    held = root.held + anatomy.layers * layer.held
    trained = root.trained + anatomy.layers * layer.trained
    lora, shard = adapter.kind == "lora", division.shard
    kept = activations(anatomy, work, precision, lora=lora)
    if recompute:
        inputs = 4 * anatomy.layers * work.computed * anatomy.width
        kept = int(inputs + kept / anatomy.layers)
    whole = 4 * anatomy.parameters
    gathered, unreduced, rounded = _on_their_way(anatomy, root, layer, division, lora=lora)
    logits = min(4 * work.scored * anatomy.vocabulary, logits_budget)
    return RankMemory(
        program=GPU_PROGRAM if gpu else PROGRAM,
        weights=held / shard,
        gradients=_GRADIENT * trained / shard,
        moments=_MOMENTS * trained / shard,
        reference=0,
        gathered=gathered,
        unreduced=unreduced,
        rounded=rounded if precision == "bf16" else 0,
        activations=kept,
        logits=LOGITS_COPIES * logits,
        loading=whole if shard == 1 else held / shard + max(root.held, layer.held),
        host=0 if shard == 1 else whole,
    )


def _on_their_way(
    anatomy: Anatomy, root: Unit, layer: Unit, division: Division, *, lora: bool
) -> tuple[float, float, float]:
    """`gathered`, `unreduced` and, in bf16, `rounded` of `RankMemory`."""
    trained = root.trained + anatomy.layers * layer.trained
    # Where head and embedding are one matrix, the end of the backward pass holds the gradient of
    # each and their sum.
    fresh = root.gradient * (3 if anatomy.tied else 1)
    if division.shard == 1:
        unreduced = fresh
        if division.copies > 1:
            unreduced = max(fresh, _BUCKET, 0 if lora else 4 * anatomy.head)
        return 0, unreduced, 2 * (trained if lora else anatomy.body + anatomy.head)
    largest = max(
        (m.inputs * m.outputs for m in anatomy.matrices), default=anatomy.width * anatomy.inner
    )
    gathered = root.held + 2 * layer.held
    unreduced = max(layer.held, root.gradient + 2 * layer.gradient, fresh - (gathered - root.held))
    return gathered, unreduced, 2 * (trained if lora else largest + anatomy.head)
