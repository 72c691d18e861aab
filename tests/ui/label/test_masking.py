"""Self-naming is hidden, and nothing else."""

from __future__ import annotations

import pytest

from palate.ui.label.masking import HIDDEN, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("As Qwen, I cannot say.", "As ▒▒▒, I cannot say."),
        ("I am ChatGPT.", "I am ▒▒▒."),
        ("Hello! I'm Claude 3.5 Sonnet, made by Anthropic.", "Hello! I'm ▒▒▒, made by ▒▒▒."),
        (
            "I am a large language model, trained by Google.",
            "I am a large language model, trained by ▒▒▒.",
        ),
        ("My name is **Llama-3.1**, nice to meet you", "My name is **▒▒▒**, nice to meet you"),
        ("I’m an AI assistant called DeepSeek.", "I’m an AI assistant called ▒▒▒."),
        ("i am gpt-4o", "i am ▒▒▒"),
        ("As an AI language model by OpenAI, I must", "As an AI language model by ▒▒▒, I must"),
    ],
)
def test_who_speaks_is_hidden(text: str, shown: str) -> None:
    assert HIDDEN == "▒▒▒"
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Qwen and Llama are families of open models.",
        "Models such as Claude answer in markdown.",
        "OpenAI was founded in 2015.",
        "I am sure that it rains. Claude Monet painted it.",
        "I am Claudette.",
        "She is named in the will.",
        "",
    ],
)
def test_what_is_spoken_about_stays(text: str) -> None:
    assert masked(text) == text


def test_the_stores_own_names_count() -> None:
    text = "I am support-bot-v2. Ask Support about it."
    assert masked(text) == text
    assert masked(text, ["acme/support-bot-v2"]) == "I am ▒▒▒. Ask Support about it."
    assert masked("I am a large language model.", ["model-a"]) == "I am a large language model."
    assert masked("I am Smollm.", ["smollm2-135m-instruct"]) == "I am ▒▒▒."
