"""Tiny random models and a byte tokenizer, so that tests need no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
BOS, START, END = 256, 257, 258
VOCABULARY = 272


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each byte, and `<|bos|>`, `<|start|>`, `<|end|>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|bos|>", "<|start|>", "<|end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_config(family: str) -> Any:
    """A config of two layers and width 32, whose vocabulary fits the byte tokenizer."""
    ids: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": END, "pad_token_id": END}
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    if family == "llama":
        return LlamaConfig(**shape, **ids, tie_word_embeddings=True)
    if family == "qwen3":
        return Qwen3Config(**shape, head_dim=8, **ids)
    assert family == "gpt2"
    return GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, **ids)


def tiny_model(family: str = "llama", seed: int = 0) -> Any:
    """A random fp32 model in evaluation mode; larger weights than default tell tokens apart."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(family))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return model.eval()


def save_tiny(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """The model and the tokenizer as a folder that `palate.model.load` reads."""
    tiny_model(family, seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
