"""From tokens to what a client may see: whole characters, nothing of a stop text, log-probs.

What might be the beginning of a stop text is held back until it is clear that it is none.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from palate.generate.stream import TextStream

_BROKEN = "\ufffd"
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a byte in SentencePiece's vocabularies


@dataclass(frozen=True, slots=True)
class TokenLogp:
    """A token with its log-prob at temperature 1, in nats, and the likeliest ones in its place."""

    token: int
    logp: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Piece:
    """Some more of choice `index`: text, the tokens that it ends with, and why it is over."""

    index: int
    text: str
    tokens: list[TokenLogp] = field(default_factory=list)
    finish: str | None = None


class Written:
    """The text of one choice as it grows; `over` once a stop text was found."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._stream, self._stops = TextStream(tokenizer), tuple(stops)
        self._held = ""
        self._said = 0  # characters that were given
        self._length = 0  # characters that are known
        self._tokens: deque[tuple[int, TokenLogp]] = deque()  # with where their text begins
        self.over = False

    def add(self, token: TokenLogp) -> tuple[str, list[TokenLogp]]:
        """The text that can be shown now, and the tokens whose text begins in it."""
        self._tokens.append((self._length, token))
        return self._take(self._stream.add(token.token))

    def finish(self) -> tuple[str, list[TokenLogp]]:
        """What was held back, where the answer ends by itself."""
        if self.over:
            return "", []
        text, tokens = self._take(self._stream.finish())
        if not self.over:
            text, self._held = text + self._held, ""
            self._said = self._length
            tokens += [token for _, token in self._tokens]
            self._tokens.clear()
        return text, tokens

    def _take(self, fresh: str) -> tuple[str, list[TokenLogp]]:
        self._length += len(fresh)
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.over = True
            shown, self._held = text[: min(found)], ""
        else:
            keep = max((_overlap(text, stop) for stop in self._stops), default=0)
            shown, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self._said += len(shown)
        tokens = []
        while self._tokens and self._tokens[0][0] < self._said:
            tokens.append(self._tokens.popleft()[1])
        return shown, tokens


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end is the stop's beginning."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)


class TokenNames:
    """Tokens as OpenAI's log-probs name them: text, and the bytes that it is made of."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bytes = _byte_alphabet()
        self.name = lru_cache(50_000)(self._name)

    def _name(self, token: int) -> tuple[str, list[int]]:
        text: str = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        if _BROKEN in text:  # a part of a character: the vocabulary knows which
            piece = self._tokenizer.convert_ids_to_tokens(token)
            if piece and (named := _BYTE.fullmatch(piece)):
                return text, [int(named[1], 16)]
            if piece and all(c in self._bytes for c in piece):
                return text, [self._bytes[c] for c in piece]
        return text, list(text.encode("utf-8", "replace"))

    def entry(self, token: TokenLogp) -> dict[str, Any]:
        """The object of `logprobs.content`."""
        own = self._entry(token.token, token.logp)
        return {**own, "top_logprobs": [self._entry(i, logp) for i, logp in token.top]}

    def _entry(self, token: int, logp: float) -> dict[str, Any]:
        text, raw = self.name(token)
        return {"token": text, "logprob": max(logp, -9999.0), "bytes": raw}


def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies (GPT-2's convention).

    Printable Latin-1 bytes stand for themselves, the others follow from U+0100 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + k): b for k, b in enumerate(others)}
