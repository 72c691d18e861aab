"""llama.cpp through llama-cpp-python: log-probs of every token, tokens of a text, quantisation."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.machine import threads
from palate.ship.texts import Text

# What `--quantize` may be, and the file types that llama.cpp's quantiser makes.
WRITTEN = ("f32", "f16", "bf16")
QUANTISED = {
    "q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
    "q6_k": "LLAMA_FTYPE_MOSTLY_Q6_K",
    "q5_k_m": "LLAMA_FTYPE_MOSTLY_Q5_K_M",
    "q5_k_s": "LLAMA_FTYPE_MOSTLY_Q5_K_S",
    "q5_0": "LLAMA_FTYPE_MOSTLY_Q5_0",
    "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M",
    "q4_k_s": "LLAMA_FTYPE_MOSTLY_Q4_K_S",
    "q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0",
    "q3_k_m": "LLAMA_FTYPE_MOSTLY_Q3_K_M",
    "q2_k": "LLAMA_FTYPE_MOSTLY_Q2_K",
}


def require_llamacpp() -> Any:
    """The binding, silenced; `ValueError` with what to install where it is missing."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(
            "checking and quantising GGUF needs llama.cpp: pip install 'palate[llamacpp]' "
            f"(it is compiled then; other builds: docs/export.md) [{error}]"
        ) from error
    llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
    return llama_cpp


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
    lambda _level, _text, _data: None
)


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write `target` in one of `QUANTISED`; raises `ValueError` where llama.cpp refuses."""
    cpp = require_llamacpp()
    params = cpp.llama_model_quantize_default_params()
    params.ftype = getattr(cpp, QUANTISED[kind])
    params.nthread = threads()
    failed = cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if failed or not target.is_file():
        raise ValueError(f"llama.cpp cannot quantise this model to {kind}")


class Runtime:
    """A GGUF file opened by llama.cpp, with room for one text of `positions` tokens."""

    def __init__(self, path: Path, positions: int) -> None:
        self._cpp = cpp = require_llamacpp()
        params = cpp.llama_model_default_params()
        self._model = cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {path.name}")
        settings = cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = max(positions, 32)
        settings.n_threads = settings.n_threads_batch = threads()
        self._context = cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            cpp.llama_model_free(self._model)
            raise ValueError(f"llama.cpp has no room for {positions} tokens of {path.name}")
        self._vocab = cpp.llama_model_get_vocab(self._model)
        self.vocabulary = int(cpp.llama_vocab_n_tokens(self._vocab))

    def close(self) -> None:
        """Give the memory back."""
        self._cpp.llama_free(self._context)
        self._cpp.llama_model_free(self._model)

    def logits(self, ids: Sequence[int], rows: Sequence[int]) -> NDArray[np.float32]:
        """Logits fp32 [len(rows), V] after each of those positions of `ids`."""
        cpp, count = self._cpp, len(ids)
        cpp.llama_memory_clear(cpp.llama_get_memory(self._context), True)
        batch = cpp.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            wanted = set(rows)
            for place, token in enumerate(ids):
                batch.token[place] = token
                batch.pos[place] = place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = place in wanted
            if cpp.llama_decode(self._context, batch):
                raise ValueError(f"llama.cpp cannot compute a text of {count} tokens")
            return np.stack([self._row(place) for place in rows])
        finally:
            cpp.llama_batch_free(batch)

    def _row(self, place: int) -> NDArray[np.float32]:
        pointer = self._cpp.llama_get_logits_ith(self._context, place)
        found: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self.vocabulary,)).copy()
        return found

    def score(self, text: Text) -> NDArray[np.float32]:
        """The logits before each measured token (`palate.ship.parity.Scorer`)."""
        return self.logits(text.ids, [t - 1 for t in text.scored])

    def tokens(self, text: str) -> list[int]:
        """Ids of a rendered prompt, control tokens read as such, none added."""
        raw = text.encode()
        room = len(raw) + 8
        found = (self._cpp.llama_token * room)()
        count = self._cpp.llama_tokenize(self._vocab, raw, len(raw), found, room, False, True)
        assert count >= 0, "no text has more tokens than bytes"
        return list(found[:count])

    def words(self, ids: Sequence[int]) -> str:
        """The text of ids piece by piece, as servers stream it, control tokens written out.

        (`llama_detokenize` takes spaces before punctuation away under some pre-tokenizers.)
        """
        return b"".join(self._piece(token) for token in ids).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        room = 64
        while True:
            found = ctypes.create_string_buffer(room)
            count = self._cpp.llama_token_to_piece(self._vocab, token, found, room, 0, True)
            if count >= 0:
                return found.raw[:count]
            room = -int(count)


@contextmanager
def opened(path: Path, positions: int) -> Iterator[Runtime]:
    """The runtime, closed after use."""
    runtime = Runtime(path, positions)
    try:
        yield runtime
    finally:
        runtime.close()
