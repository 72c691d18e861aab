from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import END, START, VOCABULARY, byte_tokenizer, tiny_model

from palate.generate.sampling import Sampling, sample
from palate.generate.stream import TextStream, printable, stream_ids
from palate.model.policy import Policy

TOKENIZER = byte_tokenizer()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_streaming_gives_the_tokens_of_sampling(family: str, temperature: float) -> None:
    policy = Policy(tiny_model(family)).eval()
    prompt = [START, *b"user\nhello"]
    sampling = Sampling(max_new_tokens=24, temperature=temperature, seed=3)
    whole = sample(policy, [prompt], sampling, end_ids=[END], n=2)[0]
    for answer in range(2):
        streamed = stream_ids(policy, prompt, sampling, end_ids=[END], answer=answer)
        assert tuple(streamed) == whole[answer].ids


def test_streaming_ends_at_an_end_token_and_leaves_no_context_open() -> None:
    policy = Policy(tiny_model(), precision="bf16").eval()
    sampling = Sampling(max_new_tokens=5, temperature=1.0)
    tokens = stream_ids(policy, [START], sampling, end_ids=range(VOCABULARY))
    first = next(tokens)
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert 0 <= first < VOCABULARY
    assert list(tokens) == []


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        next(stream_ids(Policy(tiny_model()), [], Sampling(), end_ids=[END]))


def test_a_character_of_several_tokens_comes_out_once_whole() -> None:
    text = TextStream(TOKENIZER)
    tokens = TOKENIZER("é🙂x", add_special_tokens=False)["input_ids"]
    assert len(tokens) == 7  # 2 bytes, 4 bytes, 1 byte
    assert [text.add(token) for token in tokens] == ["", "é", "", "", "", "🙂", "x"]
    assert text.finish() == ""


def test_what_never_becomes_a_character_comes_out_at_the_end() -> None:
    text = TextStream(TOKENIZER)
    first_byte = TOKENIZER("é", add_special_tokens=False)["input_ids"][0]
    assert text.add(first_byte) == ""
    assert text.finish() == "\ufffd"
    assert text.finish() == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, VOCABULARY - 14), max_size=30))
def test_the_pieces_joined_are_the_whole(tokens: list[int]) -> None:
    text = TextStream(TOKENIZER, skip_special=False)
    pieces = "".join([text.add(token) for token in tokens]) + text.finish()
    assert pieces == TOKENIZER.decode(tokens)


def test_control_characters_never_reach_a_terminal() -> None:
    assert printable("a\x1b[31mb\x07\x9bc\x7f\n\td") == "a[31mbc\n\td"
