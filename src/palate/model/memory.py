"""The memory of a run, from first principles; the constants that are measured stand first.

To calibrate anew after a change to the engine: `activations` must equal what autograd keeps
(tests/model/test_memory.py counts it exactly, without any measuring), so mend its formula until
that test passes; then `python benchmarks/memory.py --recalibrate` runs real runs and says which
`ALLOWANCE` brings predictions and measurements together.

Estimates all the same: a mixture of experts is counted as if all experts worked, and what a
model's code keeps for the backward pass is taken to be what a Llama block keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.config import AdapterConfig
from palate.model.cost import Anatomy, Work
from palate.model.head import LOGITS_BUDGET
from palate.model.nf4 import BYTES_A_WEIGHT
from palate.model.policy import Precision

# Python, torch and transformers before a model is loaded, in bytes.
PROGRAM = 600 * 2**20
# On top of what is counted, for temporaries and for the holes that the allocator keeps.
ALLOWANCE = 1.25
# fp32 tensors of the size of the logits at the peak of their backward pass.
LOGITS_COPIES = 3
# fp32 gradient and AdamW's two moments, in bytes for each trained weight.
TRAINED_BYTES = 4 + 8


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak, by purpose.

    `last` is what training does not meet: the checkpoint on its way to the disk, or the second
    copy of the model that the end of a run writes. Only the larger of `activations + logits` and
    `last` counts. `mapped` is the file of the weights that an adapter is merged into, beside
    everything, since the allocator gives nothing back. The total is `ALLOWANCE` times the sum
    of the rest, and `mapped`.
    """

    program: int
    weights: int
    copies: int
    trained: int
    reference: int
    activations: int
    logits: int
    last: int
    mapped: int

    @property
    def total(self) -> int:
        """The peak."""
        always = self.program + self.weights + self.copies + self.trained + self.reference
        counted = always + max(self.activations + self.logits, self.last)
        return int(ALLOWANCE * counted) + self.mapped


def memory(
    anatomy: Anatomy,
    largest: Work,
    adapter: AdapterConfig,
    precision: Precision,
    *,
    live_reference: bool,
    moving: bool = False,
    in_4_bits: bool = False,
    fused: bool = False,
) -> Memory:
    """Bytes by purpose, at the largest micro-batch.

    With an adapter in bf16 the frozen matrices are kept in bf16 only, and a tied head gets a
    bf16 copy of its own. Full training in bf16 keeps fp32 weights, and their bf16 copies
    while a micro-batch is computed. A live reference beside full training is a second model.
    One that moves is a second model beside an adapter too, and keeps what moves in fp32: every
    weight, or of an adapted model twice the matrices that have adapters (`palate.train.moving`).
    In 4 bits the body is neither of these, but codes and scales (`palate.model.nf4`). `fused`
    layers (`palate.model.fused`) keep less, and their head no logits: a copy of its matrix, and
    of each scored row an fp32 vector.
    """
    lora, bf16 = adapter.kind == "lora", precision == "bf16"
    matrices = anatomy.body + anatomy.head
    in_bf16 = anatomy.body + (0 if anatomy.tied else anatomy.head)
    frozen_fp32 = 4 * (anatomy.parameters - (in_bf16 if bf16 else 0))
    copies = 2 * matrices if bf16 else 0
    if in_4_bits:
        frozen_fp32 -= 0 if bf16 else 4 * anatomy.body
        copies += int(BYTES_A_WEIGHT * anatomy.body) - (2 * anatomy.body if bf16 else 0)
    trained = anatomy.adapter(adapter) if lora else anatomy.parameters
    masters = 4 * anatomy.parameters
    if lora:
        masters = 2 * 4 * sum(m.inputs * m.outputs for m in anatomy.adapted(adapter.targets))
    second = frozen_fp32 + copies if moving or (live_reference and not lora) else 0
    return Memory(
        program=PROGRAM,
        weights=frozen_fp32 if lora else 4 * anatomy.parameters,
        copies=copies,
        trained=trained * (TRAINED_BYTES + (4 if lora else 0)),
        reference=second + (masters if moving else 0),
        activations=activations(anatomy, largest, precision, lora=lora, fused=fused),
        logits=head_peak(anatomy, largest, lora=lora, fused=fused),
        last=max(4 * anatomy.parameters, 8 * trained),
        mapped=4 * anatomy.parameters if lora else 0,
    )


def head_peak(anatomy: Anatomy, work: Work, *, lora: bool, fused: bool) -> int:
    """Bytes of the head at its peak."""
    if not fused:
        logits = int(4 * work.scored * anatomy.vocabulary)
        return LOGITS_COPIES * min(logits, LOGITS_BUDGET)
    matrix = anatomy.vocabulary * anatomy.width
    return int(4 * 3 * work.scored * anatomy.width) + 2 * matrix + (0 if lora else 4 * matrix)


def activations(
    anatomy: Anatomy, work: Work, precision: Precision, *, lora: bool, fused: bool = False
) -> int:
    """Bytes that a forward pass keeps for the backward one.

        L · T · [n·D + c·(m·D + 2·a + 2·k + 4·I)]

    for T tokens (padded rows: with their padding) with c bytes a value in the compute
    precision. For each token and layer: two norms keep their input in fp32, and where their
    own weights are trained its normalised value too (n = 8 or 16); the matrix products keep
    their inputs, of which bf16 makes a copy for each of q, k, v, gate and up (m = 5, else 2);
    queries and the attention's output 2·a; keys and values 2·k, however many segments read them;
    the gated feed-forward 4·I. Fused layers keep two fp32 sums (n = 8), bf16 copies of what the
    products read (m = 2), and of the feed-forward the two products and their gated result, 3·I.
    """
    c, m = (2, 5) if precision == "bf16" else (4, 2)
    n, gated = (8 if lora else 16), 4
    if fused:
        m, n, gated = 2, 8, 3
    D, a, k, inner = anatomy.width, anatomy.attention, anatomy.keys, anatomy.inner  # noqa: N806
    token = n * D + c * (m * D + 2 * a + 2 * k + gated * inner)
    return int(anatomy.layers * work.computed * token)
