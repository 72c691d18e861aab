"""Answers in which a model says who it is, shown without the name until the vote.

Only what a model says of itself is hidden: "As Qwen, I …", "I am ChatGPT", "trained by OpenAI". A
name that an answer merely speaks about stays. What is stored, and learned from, is the text as it
was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

HIDDEN = "▒▒▒"
"""What stands for a hidden name."""

_MODELS = (
    "ChatGPT", "GPT", "Claude", "Gemini", "Bard", "Gemma", "PaLM", "Llama", "Qwen", "Qwen-VL",
    "Tongyi Qianwen", "Mistral", "Mixtral", "DeepSeek", "Phi", "Copilot", "Bing", "Sydney", "Grok",
    "Command R", "Cohere Command", "Yi", "ChatGLM", "GLM", "Kimi", "ERNIE", "Ernie Bot", "Falcon",
    "Vicuna", "Alpaca", "Koala", "Dolly", "OpenAssistant", "StableLM", "SmolLM", "OLMo", "Nova",
    "Zephyr", "Hermes", "InternLM", "Baichuan", "MiniMax", "Pi", "Bloom",
)  # fmt: skip
_MAKERS = (
    "OpenAI", "Anthropic", "Google", "Google DeepMind", "DeepMind", "Meta", "Meta AI", "Alibaba",
    "Alibaba Cloud", "Mistral AI", "DeepSeek", "Microsoft", "xAI", "Cohere", "01.AI", "Zhipu AI",
    "Moonshot AI", "Baidu", "TII", "LMSYS", "Databricks", "LAION", "Stability AI", "Hugging Face",
    "Ai2", "Allen Institute for AI", "Amazon", "Nous Research", "Shanghai AI Laboratory",
    "Baichuan", "MiniMax", "Inflection", "NVIDIA", "IBM",
)  # fmt: skip
# Words that a model's name may begin with and that a model says of itself all the same.
_PLAIN = {"model", "assistant", "bot", "chat", "base", "tuned", "instruct", "language", "large",
          "small", "fine", "the", "reference", "policy", "test", "new", "old"}  # fmt: skip
_VERSION = (
    r"(?:[\s-]?v?\d[\w.]*)*(?:[\s-](?:Turbo|Instruct|Chat|Sonnet|Opus|Haiku|Pro|Flash|Mini))*"
)
_BEFORE_NAME = (
    r"(?:\bI\s+am|\bI[’']m|\bthis\s+is|\bmy\s+name\s+is|\bmy\s+name[’']s|\bI\s+am\s+called|"
    r"\bI[’']m\s+called|\bcall\s+me|\bknown\s+as|\bnamed|(?-i:\bAs)|\bI,)"
)
_BETWEEN = r"(?:\s+(?:an?|the|your)\b[^.!?\n]{0,60}?)?(?:\s+(?:called|named))?[\s,:]+[*_\"“]*"
_BEFORE_MAKER = (
    r"(?:\b(?:made|created|developed|trained|built|designed|powered)\s+by"
    r"|\b(?:language\s+model|LLM|assistant|chatbot|AI|model)\s+(?:from|by|of))\s+[*_\"“]*(?:the\s+)?"
)


def masked(text: str, names: Iterable[str] = ()) -> str:
    """The text with what its model calls itself, and who made it, hidden.

    `names` are further names of models, for instance those that the store has for the answers.
    """
    model, maker = _patterns(tuple(sorted({name for name in names if name})))
    text = model.sub(_hide, text)
    return maker.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return found[0][: found.start("name") - found.start()] + HIDDEN


@lru_cache(256)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    models = _any((*_MODELS, *(part for name in names for part in _parts(name))))
    name = rf"(?P<name>(?i:{models}){_VERSION})(?![\w])"
    model = re.compile(rf"(?i:{_BEFORE_NAME}{_BETWEEN}){name}")
    maker = rf"(?P<name>(?i:{_any(_MAKERS)}))(?![\w])"
    return model, re.compile(rf"(?i:{_BEFORE_MAKER}){maker}")


def _any(names: Iterable[str]) -> str:
    """The longest first, so that no name is cut short by another."""
    return "|".join(re.escape(name) for name in sorted(set(names), key=lambda n: (-len(n), n)))


def _parts(name: str) -> list[str]:
    """A model's name and its family: of ``org/smollm2-135m-instruct`` the last, and ``smollm``."""
    last = name.rpartition("/")[2]
    family = re.match(r"[A-Za-z]{3,}", last)
    found = [last, *([family[0]] if family else [])]
    return [part for part in found if part.lower() not in _PLAIN]
