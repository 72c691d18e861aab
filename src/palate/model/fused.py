"""Decoder layers with few passes over memory, for bf16 on a CPU.

Between its matrix products a small model's layer makes some forty passes over its activations,
and on a CPU they cost more than the products. A layer that is built like Llama's is computed
here with the same modules and weights: projections that read the same input are one product,
LoRA's share is added into it, and what stands between is one kernel each
(`palate.model.native.layers`). Layers of other kinds, other precisions and calls without a
forest (sampling) run as transformers wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from palate.model.lora import plain
from palate.model.native.attention import layout_of
from palate.model.native.build import native
from palate.model.native.layers import gate, norm, rotary_attention
from palate.model.tiles import Scores

_KINDS = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
_HEAD, _WIDTH = 32, 16  # what the kernels need widths to be multiples of


def fuse(model: nn.Module) -> int:
    """Give eligible layers the short forward; returns how many there are.

    To be called when adapters are attached and frozen weights are in bf16.
    """
    if native().library is None:
        return 0
    fused = 0
    layer: Any
    for layer in model.modules():
        if type(layer) in _KINDS and _eligible(layer):
            parts = _Parts(
                attention=Projection.of(
                    [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
                ),
                out=Projection.of([layer.self_attn.o_proj]),
                gate_up=Projection.of([layer.mlp.gate_proj, layer.mlp.up_proj]),
                down=Projection.of([layer.mlp.down_proj]),
            )
            layer.forward = partial(_forward, layer, layer.forward, parts)
            fused += 1
    return fused


def suits(device: str, precision: str, layout: str) -> bool:
    """Whether a run of this kind may have the short forward: bf16 over trees on a CPU."""
    return device == "cpu" and precision == "bf16" and layout == "tree"


def may_fuse(config: Any) -> bool:
    """Whether the layers of the model that a transformers config describes can be fused here."""
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    widths = (text.hidden_size, getattr(text, "intermediate_size", 1))
    return (
        text.model_type in {"llama", "mistral", "qwen2"}
        and getattr(text, "hidden_act", "") == "silu"
        and head % _HEAD == 0
        and all(width % _WIDTH == 0 for width in widths)
        and native().library is not None
    )


def _eligible(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    projections += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    return (
        all(_ordinary(p) for p in projections)
        and isinstance(mlp.act_fn, (nn.SiLU, type(ACT2FN["silu"])))
        and attention.head_dim % _HEAD == 0
        and mlp.gate_proj.out_features % _WIDTH == 0
        and layer.input_layernorm.weight.shape[0] % _WIDTH == 0
        and layer.input_layernorm.weight.device.type == "cpu"
    )


def _ordinary(layer: Any) -> bool:
    """A plain linear layer, with peft's plain LoRA on it or without."""
    if type(layer) is not LoraLinear:
        return type(layer) is nn.Linear
    return type(layer.get_base_layer()) is nn.Linear and plain(layer)


@dataclass(frozen=True, slots=True)
class _Parts:
    attention: Projection
    out: Projection
    gate_up: Projection
    down: Projection


def _forward(
    layer: Any,
    theirs: Callable[..., Tensor],
    parts: _Parts,
    hidden_states: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """One layer over the packed row [1, T, D], in fp32 between layers."""
    forest, turns = kwargs.get("forest"), kwargs.get("position_embeddings")
    bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if forest is None or turns is None or not bf16 or hidden_states.dtype != torch.float32:
        return theirs(hidden_states, *args, **kwargs)
    attention, first, second = (
        layer.self_attn,
        layer.input_layernorm,
        layer.post_attention_layernorm,
    )
    window = getattr(attention, "sliding_window", None)
    if type(layer) is MistralDecoderLayer:
        window = getattr(attention.config, "sliding_window", None)
    with torch.autocast("cpu", enabled=False):
        x = hidden_states[0].contiguous()
        x, y = norm(x, None, first.weight.float(), first.variance_epsilon)
        cos, sin = (t[0].float().contiguous() for t in turns)
        seen = rotary_attention(
            parts.attention(y),
            cos,
            sin,
            attention.config.num_key_value_heads,
            layout_of(forest, window),
            Scores(attention.scaling, window),
        )
        more = parts.out(seen.flatten(1))
        x, y = norm(x, more, second.weight.float(), second.variance_epsilon)
        inner = gate(parts.gate_up(y))
        total: Tensor = x + parts.down(inner)
        return total[None]


class Projection:
    """Linear layers over one input, as one matrix product, with what LoRA adds to each.

    Frozen weights are put into one matrix, of which the layers' own become parts; trained ones
    are joined anew by every call.
    """

    def __init__(self, bases: list[nn.Linear], adapters: list[LoraLinear | None]) -> None:
        self.bases, self.adapters = bases, adapters
        frozen = not any(p.requires_grad for base in bases for p in base.parameters())
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if frozen:
            self.weight = torch.cat([base.weight.detach().bfloat16() for base in bases])
            at = 0
            for base in bases:
                rows = self.weight[at : at + base.out_features]
                base.weight = nn.Parameter(rows, requires_grad=False)
                at += base.out_features
            self.bias = self._joined_bias()

    @classmethod
    def of(cls, layers: Sequence[Any]) -> Projection:
        """From plain layers or peft's around them."""
        adapters = [layer if type(layer) is LoraLinear else None for layer in layers]
        bases: list[Any] = [
            layer.get_base_layer() if type(layer) is LoraLinear else layer for layer in layers
        ]
        return cls(bases, adapters)

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] → [T, out of all layers], bf16."""
        if self.weight is None:
            weight = torch.cat([base.weight for base in self.bases]).bfloat16()
            bias = self._joined_bias()
            return functional.linear(x, weight, bias)
        active = [
            (number, layer)
            for number, layer in enumerate(self.adapters)
            if layer is not None and not layer.disable_adapters and not layer.merged
        ]
        assert all(len(layer.active_adapters) == 1 for _, layer in active), "one adapter at a time"
        if not active:
            return functional.linear(x, self.weight, self.bias)
        names = [layer.active_adapters[0] for _, layer in active]
        down = [layer.lora_A[name].weight for (_, layer), name in zip(active, names, strict=True)]
        up = [layer.lora_B[name].weight for (_, layer), name in zip(active, names, strict=True)]
        scales = [layer.scaling[name] for (_, layer), name in zip(active, names, strict=True)]
        starts = [sum(b.out_features for b in self.bases[:number]) for number, _ in active]
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, tuple(starts), tuple(scales), *down, *up
        )
        return out

    def _joined_bias(self) -> Tensor | None:
        found: list[Tensor | None] = [getattr(base, "bias", None) for base in self.bases]
        if all(bias is None for bias in found):
            return None
        parts = [
            torch.zeros(base.out_features) if bias is None else bias
            for base, bias in zip(self.bases, found, strict=True)
        ]
        return torch.cat(parts).bfloat16()


class _Adapted(torch.autograd.Function):
    """y = x W^T + Σ_i s_i (x A_i^T) B_i^T, each B_i in its own columns (Hu et al. 2021, eq. 3).

    All A_i are one matrix, all s_i·B_i one matrix with zeros between: two products forward, and
    two for the input's gradient, in which W's share and the adapters' meet without another pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        starts: tuple[int, ...],
        scales: tuple[float, ...],
        *factors: Tensor,
    ) -> Tensor:
        down, up = factors[: len(starts)], factors[len(starts) :]
        down_RI = torch.cat(down).bfloat16()
        up_RO = x.new_zeros(len(down_RI), len(weight))
        at = 0
        for start, scale, matrix in zip(starts, scales, up, strict=True):
            rank = matrix.shape[1]
            up_RO[at : at + rank, start : start + len(matrix)] = (matrix * scale).t()
            at += rank
        inner_TR = functional.linear(x, down_RI)
        out = functional.linear(x, weight, bias).addmm_(inner_TR, up_RO)
        ctx.save_for_backward(x, weight, inner_TR, down_RI, up_RO)
        ctx.parts = [
            (start, scale, m.shape) for start, scale, m in zip(starts, scales, up, strict=True)
        ]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, inner_TR, down_RI, up_RO = ctx.saved_tensors
        grad = grad.contiguous()
        inner_grad_TR = grad @ up_RO.t()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(inner_grad_TR, down_RI)
        grad_down_RI = (inner_grad_TR.t() @ x).float()
        grad_up_RO = (inner_TR.t() @ grad).float()
        downs, ups, at = [], [], 0
        for start, scale, (size, rank) in ctx.parts:
            downs.append(grad_down_RI[at : at + rank])
            ups.append(grad_up_RO[at : at + rank, start : start + size].t() * scale)
            at += rank
        return grad_x, None, None, None, None, *downs, *ups
