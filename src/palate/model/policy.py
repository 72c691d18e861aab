"""The trained thing: one module, one forward, from a forest to branch log-probs.

Body and head are never called from outside, so that data-parallel hooks,
checkpointing and compilation see one forward (DESIGN, "The policy").
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from palate.model.attention import TREE_ATTENTION
from palate.model.blocks import Blocks
from palate.model.cost import price_of
from palate.model.head import LOGITS_BUDGET, matrix_of, target_logps
from palate.model.native import head as native_head
from palate.model.statistics import Distribution, Statistic, row_statistics
from palate.tokens.divide import Price
from palate.tokens.padding import bucket, pad_forest
from palate.tokens.tree import Forest

Layout = Literal["tree", "plain"]
Precision = Literal["fp32", "bf16"]
# What a config may say is done to the logits after the head's matrix, see `Policy._logits`.
_LOGIT_CHANGES = ("logits_scaling", "logit_scale", "final_logit_softcapping")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a forward should tell besides the log-probs.

    `statistics` of the distributions that the supervised tokens are drawn from; "kl" is measured
    from `against`. `hidden`: the rows that reach the head, to be another policy's `against`.
    """

    statistics: tuple[Statistic, ...] = ()
    against: Distribution | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class BranchLogps:
    """log π of every supervised token, in branch order and then reading order.

    `token_logps_N` fp32 [N]; `branches_N` [N] names each token's branch; `branches` is B.
    `statistics` has a value [N] for each that was asked for, `hidden_HD` the head's rows if
    they were. `scores_B` is the scalar head's value at each branch's last token; the
    log-probs are then 0. `values_N` is the value head's word before each token.
    """

    token_logps_N: Tensor
    branches_N: Tensor
    branches: int
    statistics: dict[str, Tensor] = field(default_factory=dict)
    hidden_HD: Tensor | None = None
    scores_B: Tensor | None = None
    values_N: Tensor | None = None

    def sums_B(self, values_N: Tensor | None = None) -> Tensor:
        """Sum over each branch of the log-probs, or of other per-token values, in float64.

        (fp32 where the device has no float64.)
        """
        values_N = self.token_logps_N if values_N is None else values_N
        wide = values_N.to(accumulation_dtype(values_N.device))
        return torch.zeros(self.branches, dtype=wide.dtype, device=wide.device).index_add(
            0, self.branches_N, wide
        )

    def counts_B(self) -> Tensor:
        """Supervised tokens of each branch."""
        ones_N = torch.ones_like(self.branches_N)  # bincount would wait for the device
        return torch.zeros(self.branches, dtype=ones_N.dtype, device=ones_N.device).index_add(
            0, self.branches_N, ones_N
        )


NOTHING_MORE = Ask()


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """float64, or fp32 on devices that lack it (mps)."""
    return torch.float32 if device.type == "mps" else torch.float64


class Policy(nn.Module):
    """A causal language model that answers one question: the log-probs of a forest's branches.

    `model` is a transformers causal LM, with or without adapters inside. `layout` says how
    it is run: as a packed tree, or each branch padded to a row of its own (the forest must
    then be built with `share=False`). `kernel` computes the tree's attention in place of the
    tiled form (`palate.model.kernels`), `blocks` compiles or recomputes the layers.
    """

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout = "tree",
        precision: Precision = "fp32",
        logits_budget: int = LOGITS_BUDGET,
        kernel: Callable[..., Tensor | None] | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.layout: Layout = layout
        self.precision: Precision = precision
        self.logits_budget = logits_budget
        self.kernel = kernel
        self.blocks = blocks
        self.fused = 0  # layers with the short forward (`palate.model.fused`)
        self.scalar: nn.Linear | None = None  # takes the head's place (`palate.model.scalar`)
        self.value: nn.Linear | None = None  # stands beside the head (`palate.model.value`)
        refuse_dropout(model.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def plain_attention(self) -> str:
        """transformers' attention for padded rows: sdpa, or eager for families without it."""
        return "sdpa" if getattr(self.model, "_supports_sdpa", False) else "eager"

    @functools.cached_property
    def price(self) -> Price:
        """Operations of a forward pass by what is computed, to balance ranks by."""
        return price_of(self.model)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of the compute precision; weights keep theirs."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def attend(self, implementation: str) -> None:
        """Choose the attention that the next forward uses; costs nothing when unchanged."""
        if self.model.config._attn_implementation != implementation:
            self.model.set_attn_implementation(implementation)
        assert self.model.config._attn_implementation == implementation, (
            f"{type(self.model).__name__} refuses the attention '{implementation}'"
        )

    def forward(self, forest: Forest, ask: Ask = NOTHING_MORE) -> BranchLogps:
        """log π of each supervised token of each branch, given everything above it."""
        with self.autocast():
            with self.blocks.running(forest) if self.blocks is not None else nullcontext():
                hidden_TD = self._packed(forest) if self.layout == "tree" else self._padded(forest)
            if self.scalar is not None:
                return self._scored(self.scalar, hidden_TD[forest.last_B], forest)
            hidden_HD = hidden_TD[forest.hidden_H]
            logps_P = self._logps(hidden_HD, forest)
            found = self._statistics(hidden_HD, ask)
        values_H = None if self.value is None else scalars(self.value, hidden_HD)
        rows_N = forest.rows_P[forest.predictions_N]
        return BranchLogps(
            logps_P[forest.predictions_N],
            forest.branches_N,
            forest.branches,
            statistics={name: values_H[rows_N] for name, values_H in found.items()},
            hidden_HD=hidden_HD if ask.hidden else None,
            values_N=None if values_H is None else values_H[rows_N],
        )

    def distribution(self, hidden_HD: Tensor) -> Distribution:
        """Hidden states of this policy with its head, for another's `Ask.against`."""

        def head(rows: Tensor) -> Tensor:
            with self.autocast():
                return self._logits(rows)

        return Distribution(hidden_HD, head)

    def logits(self, hidden_HD: Tensor) -> Tensor:
        """The head's logits of a few rows, [H, V]: for sampling, without a gradient in mind."""
        matrix_VD = self._head_matrix()
        with self.autocast():
            if matrix_VD is None or hidden_HD.device.type != "cpu":
                return self._logits(hidden_HD)
            # W xᵀ takes a third to two thirds of the time of x Wᵀ where x has few rows.
            return torch.mm(matrix_VD, hidden_HD.t()).t().contiguous()

    def _statistics(self, hidden_HD: Tensor, ask: Ask) -> dict[str, Tensor]:
        if not ask.statistics:
            return {}
        vocabulary = self.model.config.get_text_config().vocab_size
        wanted, budget = ask.statistics, self.logits_budget
        return row_statistics(self._logits, hidden_HD, wanted, vocabulary, budget, ask.against)

    def _scored(self, scalar: nn.Linear, last_BD: Tensor, forest: Forest) -> BranchLogps:
        scores_B = scalars(scalar, last_BD)
        zeros_N = scores_B.new_zeros(forest.predictions_N.shape)
        return BranchLogps(zeros_N, forest.branches_N, forest.branches, scores_B=scores_B)

    def _packed(self, forest: Forest) -> Tensor:
        self.attend(TREE_ATTENTION)
        if self.blocks is not None and self.blocks.compiled:
            forest = pad_forest(forest, bucket(forest.unique_tokens))
        out = self._body()(
            input_ids=forest.ids_T[None],
            position_ids=forest.positions_T[None],
            attention_mask=None,
            use_cache=False,
            forest=forest,
            kernel=self.kernel,
        )
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    def _padded(self, forest: Forest) -> Tensor:
        assert not forest.shared, "the plain layout computes every branch by itself"
        self.attend(self.plain_attention)
        lengths = [segment.length for segment in forest.segments]
        rows = nn.utils.rnn.pad_sequence(list(forest.ids_T.split(lengths)), batch_first=True)
        steps = torch.arange(rows.shape[1], device=rows.device)
        valid = steps[None] < torch.tensor(lengths, device=rows.device)[:, None]
        out = self._body()(input_ids=rows, attention_mask=valid.long(), use_cache=False)
        return out.last_hidden_state[valid]  # type: ignore[no-any-return]

    def _logps(self, hidden_HD: Tensor, forest: Forest) -> Tensor:
        matrix_VD = self._head_matrix()
        if native_head.serves(hidden_HD, matrix_VD):
            assert matrix_VD is not None, "served only where the head is a matrix"
            return native_head.head_logps(hidden_HD, matrix_VD, forest.rows_P, forest.targets_P)
        return target_logps(
            self._logits,
            hidden_HD,
            forest,
            self.model.config.get_text_config().vocab_size,
            self.logits_budget,
            matrix_VD,
        )

    def _body(self) -> nn.Module:
        return self.model.get_decoder()  # type: ignore[no-any-return]

    def _head_matrix(self) -> Tensor | None:
        """The head's weight, where the logits are nothing but hidden states times it."""
        config = self.model.config.get_text_config()
        changed = any(getattr(config, name, None) for name in _LOGIT_CHANGES)
        return None if changed else matrix_of(self.model.get_output_embeddings())

    def _logits(self, hidden: Tensor) -> Tensor:
        """The head, with the scale or cap that some families apply; the probe compares it."""
        config = self.model.config.get_text_config()
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        if getattr(config, "logits_scaling", None):  # Granite divides
            logits = logits / config.logits_scaling
        if getattr(config, "logit_scale", None):  # Cohere multiplies
            logits = logits * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits


def scalars(head: nn.Linear, hidden_RD: Tensor) -> Tensor:
    """A head of one number, in fp32: a score's rounding is a reward's."""
    with torch.autocast(hidden_RD.device.type, enabled=False):
        found: Tensor = head(hidden_RD.to(head.weight.dtype))[:, 0]
    return found


def refuse_dropout(config: Any) -> None:
    """Set every dropout of a model's config to 0; some models ship with more.

    With dropout the policy and its reference differ before the first step. Layers were
    already built from the config, so `silence_dropout` zeroes them too.
    """
    for name, value in list(vars(config).items()):
        if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)


def silence_dropout(model: nn.Module) -> int:
    """Zero every dropout layer; returns how many were active."""
    active = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            module.p = 0.0
            active += 1
        rate = getattr(module, "attention_dropout", None)
        if isinstance(rate, float) and rate > 0:
            module.attention_dropout = 0.0  # type: ignore[assignment]
            active += 1
    return active
