"""The memory of a run, from first principles."""

from __future__ import annotations

from dataclasses import dataclass

from palate.config import AdapterConfig
from palate.model.cost import Anatomy, Work
from palate.model.head import LOGITS_BUDGET
from palate.model.nf4 import BYTES_A_WEIGHT
from palate.model.policy import Precision

# Python, torch and transformers before a model is loaded, in bytes.
PROGRAM = 600 * 2**20
# On top of what is counted
ALLOWANCE = 1.25
# fp32 gradient and AdamW's two moments, in bytes for each trained weight.
_TRAINED_BYTES = 4 + 8


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak; `last` is the second copy of the model that the end of a run loads.

    Training and the end do not meet, so only the larger of `activations + logits` and `last`
    counts. The total is `ALLOWANCE` times the sum.
    """

    program: int
    weights: int
    copies: int
    trained: int
    reference: int
    activations: int
    logits: int
    last: int

    @property
    def total(self) -> int:
        """The peak."""
        always = self.program + self.weights + self.copies + self.trained + self.reference
        return int(ALLOWANCE * (always + max(self.activations + self.logits, self.last)))


def memory(
    anatomy: Anatomy,
    largest: Work,
    adapter: AdapterConfig,
    precision: Precision,
    *,
    live_reference: bool,
    in_4_bits: bool = False,
) -> Memory:
    """Bytes by purpose, at the largest micro-batch.

    With an adapter in bf16 the frozen matrices are kept in bf16 only, and a tied head gets a
    bf16 copy of its own. Full training in bf16 keeps fp32 weights, and their bf16 copies
    while a micro-batch is computed. A live reference beside full training is a second model.
    In 4 bits the body is neither of these, but codes and scales (`palate.model.nf4`).
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
    return Memory(
        program=PROGRAM,
        weights=frozen_fp32 if lora else 4 * anatomy.parameters,
        copies=copies,
        trained=trained * (_TRAINED_BYTES + (4 if lora else 0)),
        reference=frozen_fp32 + copies if live_reference and not lora else 0,
        activations=activations(anatomy, largest, precision),
        logits=int(3 * min(4 * largest.scored * anatomy.vocabulary, LOGITS_BUDGET)),
        last=4 * anatomy.parameters,
    )


def activations(anatomy: Anatomy, work: Work, precision: Precision) -> int:
    """Bytes that a forward pass keeps for the backward one.

        L · [T·(16·D + c·(2·D + 3·a + 2·k + 4·I)) + 2·c·a·G]

    with c bytes a value in the compute precision. For each token and layer: two norms keep
    their input and their normalised output in fp32 (16·D) and hand on 2·D; queries, the
    attention's output and its copy 3·a; keys and values 2·k; the gated feed-forward 4·I. Keys
    and values are gathered for every segment, G rows each, with heads repeated.
    """
    c = 2 if precision == "bf16" else 4
    D, a, k, inner = anatomy.width, anatomy.attention, anatomy.keys, anatomy.inner  # noqa: N806
    token = 16 * D + c * (2 * D + 3 * a + 2 * k + 4 * inner)
    return int(anatomy.layers * (work.unique * token + 2 * c * a * work.gathered))
