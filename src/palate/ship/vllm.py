"""What vLLM has to be told so that it asks a model as it was trained."""

from __future__ import annotations

from typing import Any

from palate.tokens.templates import TemplateFailed, render_chat

# `MaxLoRARanks` of vllm.config.lora, of which 16 is the default: no other rank is taken.
_RANKS = (16, 32, 64, 128, 256, 320, 512)
NO_THINKING = ["--default-chat-template-kwargs", '{"enable_thinking": false}']
"""Arguments of `vllm serve`."""
PLAIN = "trained on plain text, without a chat template: ask /v1/completions"


def max_lora_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that vLLM takes for a rank, or the rank where none is."""
    return next((known for known in _RANKS if known >= rank), rank)


def may_think(tokenizer: Any) -> bool:
    """Whether the chat template opens an answer otherwise without `enable_thinking=False`.

    With the word is how answers are opened in training; programs that leave it out ask for a
    thought that the model was not trained to have.
    """
    turns = [{"role": "user", "content": "Hello"}]
    try:
        open_ = render_chat(tokenizer, turns, generate=True)
        shut = render_chat(tokenizer, turns, generate=True, enable_thinking=False)
    except TemplateFailed:
        return False
    return open_ != shut
