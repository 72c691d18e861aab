"""Small tokenizers of the two kinds that GGUF knows, trained on a few lines."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from palate.ship.vocabulary import _LLAMA3, _QWEN2

LINES = [
    "Question 3: isn't it 13? Be brief, and end with a question.",
    "Yes, 5 it is. And you? No, not at all: naïve!",
    "system user assistant the of and to in is that it was for on are with as",
] * 4
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def steps_of(pre: str) -> Any:
    """The pre-tokenizer behind one of llama.cpp's names."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in {"gpt-2", "smollm"})
    if pre == "gpt-2":
        return level
    if pre == "smollm":
        first: Any = pre_tokenizers.Digits(individual_digits=True)
    else:
        expression = {"llama-bpe": _LLAMA3, "qwen2": _QWEN2}[pre]
        first = pre_tokenizers.Split(Regex(expression), behavior="isolated")
    return pre_tokenizers.Sequence([first, level])


def byte_level(pre: str = "qwen2", template: str = CHATML) -> PreTrainedTokenizerFast:
    """Byte-level BPE with some dozens of merges."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = steps_of(pre)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    inner.add_special_tokens(CONTROLS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def sentencepiece(template: str = CHATML) -> PreTrainedTokenizerFast:
    """BPE over characters with bytes for the rest, as Llama 2's and Gemma's."""
    normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizer
    learned.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    import json

    model = json.loads(learned.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [name for name, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [tuple(pair) for pair in model["merges"]]
    inner = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    inner.normalizer = normalizer
    inner.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>", *CONTROLS[1:]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
    )
    tokenizer.chat_template = template
    return tokenizer
