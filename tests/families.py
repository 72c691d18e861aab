"""A random tiny model of each family whose tree is exact, and of families it must refuse."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.model.policy import refuse_dropout, silence_dropout

VOCABULARY = 64
IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
EXPERTS: dict[str, Any] = {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}

FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gpt2",
    "gpt_neox",
    "opt",
    "qwen3_moe",
    "mixtral",
    "gpt_oss",
    "granite",
    "cohere",
    "cohere2",
    "olmo2",
    "smollm3",
    "starcoder2",
)
"""transformers' names of the families that are supported on a tree."""


def random_model(family: str, seed: int) -> Any:
    """One to three layers of random shape; window, caps and scales small enough to matter."""
    return build(family, _random_shape(family, random.Random(f"{family} {seed}")), seed)


def build(family: str, shape: dict[str, Any], seed: int = 0) -> Any:
    """An fp32 model in evaluation mode: larger weights, biases and norms off their first values.

    (Cohere's norms have two dimensions; four times as large they would saturate the softmax.)
    """
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape))
    refuse_dropout(model.config)
    silence_dropout(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                parameter.mul_(4.0)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _random_shape(family: str, draw: random.Random) -> dict[str, Any]:
    heads, width, layers = draw.choice((2, 4)), draw.choice((8, 16)), draw.randint(1, 3)
    if family == "gpt2":
        return {
            "vocab_size": VOCABULARY,
            "n_embd": heads * width,
            "n_layer": layers,
            "n_head": heads,
            **IDS,
        }
    if family == "opt":
        return {
            "vocab_size": VOCABULARY,
            "hidden_size": heads * width,
            "word_embed_proj_dim": heads * width,
            "ffn_dim": draw.choice((24, 64)),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "do_layer_norm_before": draw.random() < 0.5,
            **IDS,
        }
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": heads * width,
        "intermediate_size": draw.choice((24, 64)),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([n for n in (1, 2, 4) if heads % n == 0]),
        "tie_word_embeddings": draw.random() < 0.5,
        **IDS,
        **_of_family(family, width, draw),
    }


def _of_family(family: str, width: int, draw: random.Random) -> dict[str, Any]:
    """What only this family has."""
    window = {"sliding_window": draw.randint(3, 20)}
    size = {"head_dim": width}
    own: dict[str, dict[str, Any]] = {
        "qwen2": {**window, "use_sliding_window": draw.random() < 0.5, "max_window_layers": 1},
        "qwen3": size,
        "mistral": window,
        "gemma": size,
        "gemma2": {
            **size,
            **window,
            "attn_logit_softcapping": draw.choice((1.0, 5.0)),
            "final_logit_softcapping": draw.choice((2.0, 10.0)),
            "query_pre_attn_scalar": draw.choice((4, 32)),
        },
        "gemma3_text": {**size, **window, "query_pre_attn_scalar": draw.choice((4, 32))},
        "phi3": {**window, "partial_rotary_factor": draw.choice((0.5, 1.0))},
        "gpt_neox": {
            "use_parallel_residual": draw.random() < 0.5,
            "rotary_pct": draw.choice((0.25, 1.0)),
        },
        "qwen3_moe": {**size, **EXPERTS},
        "mixtral": {**EXPERTS, **window},
        "gpt_oss": {**size, **EXPERTS, **window},
        "granite": {
            "logits_scaling": draw.choice((0.5, 3.0)),
            "attention_multiplier": draw.choice((0.1, 0.6)),
            "residual_multiplier": draw.choice((0.5, 1.5)),
            "embedding_multiplier": draw.choice((0.5, 3.0)),
        },
        "cohere": {
            "logit_scale": draw.choice((0.3, 2.0)),
            "use_qk_norm": draw.random() < 0.5,
        },
        "cohere2": {**window, "logit_scale": draw.choice((0.3, 2.0))},
        "starcoder2": window,
    }
    return own.get(family, {})
