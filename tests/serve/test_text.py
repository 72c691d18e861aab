"""Stop texts across token borders, what is held back, log-probs that go with what is shown."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ship.vocabularies import sentencepiece
from tests.tiny import byte_tokenizer

from palate.serve.text import TokenLogp, TokenNames, Written

TOKENIZER = byte_tokenizer()


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def write(text: str, stops: list[str]) -> tuple[list[str], str, int, bool]:
    """Pieces as they come, the rest, how many tokens were told, and whether a stop was found."""
    written = Written(TOKENIZER, stops)
    pieces, told = [], 0
    for token in ids(text):
        piece, tokens = written.add(TokenLogp(token, -1.0))
        pieces.append(piece)
        told += len(tokens)
        if written.over:
            return pieces, "", told, True
    rest, tokens = written.finish()
    return pieces, rest, told + len(tokens), written.over


def test_what_may_begin_a_stop_text_is_held_back() -> None:
    """`ab` is held until `x` shows that it does not begin `abc`; `abc` is never shown."""
    assert write("1ab", ["abc"]) == (["1", "", ""], "ab", 3, False)
    assert write("1abx", ["abc"]) == (["1", "", "", "abx"], "", 4, False)
    assert write("1abc9", ["abc"]) == (["1", "", "", ""], "", 1, True)


def test_the_first_of_several_stop_texts_counts() -> None:
    assert write("one two", ["two", "e t"])[0] == ["o", "n", "", "", ""]
    assert write("aab", ["ab"]) == (["", "a", ""], "", 1, True)


def test_a_stop_text_of_one_character_of_several_tokens() -> None:
    """é is two tokens: the first shows nothing, and the second ends the answer."""
    assert write("aé!", ["é"]) == (["a", "", ""], "", 1, True)


def test_tokens_come_with_the_text_that_they_begin() -> None:
    written = Written(TOKENIZER, ["é!"])
    shown = [written.add(TokenLogp(token, 0.0)) for token in ids("xéy")]
    assert [text for text, _ in shown] == ["x", "", "", "éy"]
    assert [[t.token for t in tokens] for _, tokens in shown] == [
        ids("x"),
        [],
        [],
        [*ids("é"), *ids("y")],
    ]


@settings(max_examples=200, deadline=None)
@given(st.text("abé", max_size=12), st.lists(st.text("abé", min_size=1, max_size=4), max_size=3))
def test_what_is_shown_is_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    """The earliest that is complete: at the first prefix of the text that holds a stop."""
    prefixes = (text[:size] for size in range(len(text) + 1))
    first = next((p for p in prefixes if any(stop in p for stop in stops)), None)
    expected = text if first is None else first[: min(first.find(s) for s in stops if s in first)]
    pieces, rest, told, over = write(text, stops)
    assert "".join(pieces) + rest == expected
    assert over == (first is not None)
    assert told == len(ids(expected))


def test_tokens_are_named_by_their_bytes() -> None:
    names = TokenNames(TOKENIZER)
    raw = list(itertools.chain.from_iterable(names.name(token)[1] for token in ids("é 🙂")))
    assert bytes(raw).decode() == "é 🙂"
    assert names.name(ids("a")[0]) == ("a", [97])
    entry = names.entry(TokenLogp(ids("a")[0], -0.5, ((ids("b")[0], -0.7),)))
    assert entry == {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -0.7, "bytes": [98]}],
    }


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_has_a_name(byte: int) -> None:
    piece = TOKENIZER.convert_ids_to_tokens(byte)
    ((token, raw),) = [TokenNames(TOKENIZER).name(byte)]
    assert len(raw) == 1
    assert TokenNames(TOKENIZER)._bytes[piece] == raw[0]
    assert token


def test_byte_tokens_of_sentencepiece_are_one_byte() -> None:
    """é is not in the vocabulary: <0xC3> and <0xA9> stand for its two bytes."""
    tokenizer = sentencepiece()
    names = TokenNames(tokenizer)
    first, second = tokenizer.convert_tokens_to_ids(["<0xC3>", "<0xA9>"])
    assert (names.name(first)[1], names.name(second)[1]) == ([0xC3], [0xA9])
