"""The model families that can be written as GGUF, and what llama.cpp must be told of each.

Architectures and their keys are those of the GGUF specification (ggml-org/ggml, docs/gguf.md)
and of the `gguf` package; what a family does to its weights follows from how llama.cpp
computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


@dataclass(frozen=True, slots=True)
class Family:
    """How one of transformers' `model_type`s becomes an architecture of llama.cpp.

    - `interleaved`: llama.cpp rotates neighbouring pairs, transformers the two halves of a head;
      the rows of q and k change places accordingly.
    - `norms_from_one`: transformers keeps norm weights less 1.
    - `act`: the activation that llama.cpp computes.
    - `windows`: llama.cpp has the family's sliding window, every so many layers without one.
    - `big`: with so many layers llama.cpp scales attention by the width of all heads.
    """

    arch: str
    interleaved: bool = False
    norms_from_one: bool = False
    act: str = "silu"
    windows: int | None = None
    big: int | None = None


_GELU = "gelu_pytorch_tanh"
FAMILIES = {
    "llama": Family("llama", interleaved=True),
    "mistral": Family("llama", interleaved=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "phi3": Family("phi3"),
    "gemma": Family("gemma", norms_from_one=True, act=_GELU),
    "gemma2": Family("gemma2", norms_from_one=True, act=_GELU, windows=2, big=46),
    "gemma3_text": Family("gemma3", norms_from_one=True, act=_GELU, windows=6, big=62),
}
_ROPES = {"default", "linear", "llama3", "longrope", "yarn"}


def family_of(config: Any) -> Family:
    """The family of a transformers config; `ValueError` for one that cannot be written."""
    name = config.model_type
    if name not in FAMILIES:
        raise ValueError(
            f"a model of the family {name} cannot be written as GGUF here (these can: "
            f"{', '.join(FAMILIES)}): export it with --to merged"
        )
    family = FAMILIES[name]
    wrong = _unlike(family, config)
    if wrong:
        raise ValueError(f"this {name} model cannot be written as GGUF: llama.cpp has no {wrong}")
    return family


def _unlike(family: Family, config: Any) -> str | None:
    """What this model computes that llama.cpp's architecture does not."""
    act = getattr(config, "hidden_activation", None) or config.hidden_act
    if act != family.act:
        return f"activation {act} in {family.arch}, only {family.act}"
    for name, rope in rope_tables(config).items():
        kind = rope.get("rope_type", "default")
        if kind not in _ROPES or (kind == "llama3" and not family.interleaved):
            return f"rotary embedding of type {kind} in {family.arch} ({name})"
    if family.windows is not None:
        kinds = config.layer_types
        regular = [
            "full_attention" if (i + 1) % family.windows == 0 else "sliding_attention"
            for i in range(len(kinds))
        ]
        if list(kinds) != regular:
            return f"other order of sliding windows than every {family.windows}th layer without"
        heads = config.hidden_size // config.num_attention_heads
        wide = heads if config.num_hidden_layers == family.big else config.head_dim
        if not math.isclose(config.query_pre_attn_scalar, wide):
            return f"query_pre_attn_scalar {config.query_pre_attn_scalar:g}, only {wide}"
    return None


def rope_tables(config: Any) -> dict[str, dict[str, Any]]:
    """The rotary settings by kind of layer; `full_attention` where there is one kind."""
    rope = getattr(config, "rope_parameters", None) or {}
    if "rope_type" in rope or "rope_theta" in rope or not rope:
        return {"full_attention": rope}
    return {name: table for name, table in rope.items() if isinstance(table, dict)}


def head_width(config: Any) -> int:
    """Width of one attention head."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def positions(family: Family, config: Any) -> int:
    """The longest context for which llama.cpp computes what transformers does.

    A sliding window that llama.cpp's architecture leaves out changes nothing within its width.
    """
    most = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    if family.windows is not None or not window or not getattr(config, "use_sliding_window", True):
        return most
    return min(most, int(window))


def tell(writer: Any, family: Family, config: Any) -> None:
    """Write the architecture's settings."""
    writer.add_context_length(positions(family, config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_width(config))
    writer.add_value_length(head_width(config))
    writer.add_vocab_size(config.vocab_size)
    tables = rope_tables(config)
    rope = tables["full_attention"]
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1
    writer.add_rope_dimension_count(int(share * head_width(config)))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if "sliding_attention" in tables:
        writer.add_rope_freq_base_swa(float(tables["sliding_attention"]["rope_theta"]))
    if family.windows is not None:
        writer.add_sliding_window(config.sliding_window)
    for key, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if getattr(config, key, None):
            add(float(getattr(config, key)))
    _tell_scaling(writer, rope)


def _tell_scaling(writer: Any, rope: dict[str, Any]) -> None:
    from gguf import RopeScalingType

    kind = rope.get("rope_type", "default")
    if kind in {"linear", "yarn"}:
        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind in {"yarn", "longrope"} and rope.get("original_max_position_embeddings"):
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    if kind == "longrope":
        before = int(rope["original_max_position_embeddings"])
        stretch = float(rope.get("factor") or 1.0)
        scale = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(before))
        writer.add_rope_scaling_attn_factors(float(rope.get("attention_factor") or scale))


def rope_tensors(config: Any) -> dict[str, torch.Tensor]:
    """Divisors of the rotary frequencies that llama.cpp reads as tensors, fp32 [head / 2]."""
    rope = rope_tables(config)["full_attention"]
    kind = rope.get("rope_type", "default")
    if kind == "longrope":
        return {
            f"rope_factors_{name}.weight": torch.tensor(rope[f"{name}_factor"], dtype=torch.float32)
            for name in ("long", "short")
        }
    if kind != "llama3":
        return {}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = head_width(config)
    plain = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    return {"rope_freqs.weight": plain / scaled}
