"""How far an exported model is from the trainer's: KL(trainer ‖ exported) on held-out tokens.

KL(p ‖ q) = Σ_v p(v) (log p(v) − log q(v)), in nats, for each measured position over the
whole vocabulary, from fp32 logits in float64. A classifier's score s is the log-odds of a
coin: its two logits are 0 and s.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.ship.texts import Text, Texts

# Ids [T] to one row for each measured position: logits fp32 [S, V] before that token.
Scorer = Callable[[Text], NDArray[np.float32]]

# Nats a token on average. How they were chosen, and what was measured: docs/export.md.
LIMITS = {
    "adapter": 1e-4,
    "fp32": 1e-4,
    "bf16": 5e-3,
    "f32": 1e-3,
    "f16": 1e-3,
    "q8_0": 0.02,
    "q6_k": 0.05,
    "q5_k_m": 0.1,
    "q5_k_s": 0.1,
    "q5_0": 0.1,
    "q4_k_m": 0.25,
    "q4_k_s": 0.25,
    "q4_0": 0.3,
    "q3_k_m": 0.5,
    "q2_k": 1.0,
}


class NotFaithful(Exception):
    """The exported model says something else than the trainer's; the message has the figures."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What was measured, through which runtime, on what.

    `kl` is the mean over measured tokens, `error` its standard error by text (None for one
    text), `largest` the worst token's; `top1` the share of tokens whose likeliest token is
    the same. `unit` is what a position is: a token, or a classifier's text.
    """

    runtime: str
    origin: str
    kl: float
    error: float | None
    largest: float
    top1: float
    tokens: int
    texts: int
    limit: float
    unit: str = "token"

    @property
    def passed(self) -> bool:
        """Whether the mean is within the limit; what is no number is not."""
        return self.kl <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """For ship.json."""
        return {**asdict(self), "passed": self.passed}

    def sentence(self) -> str:
        """The figures in one line."""
        tail = "" if self.error is None else f" ± {self.error:.1g}"
        return (
            f"KL {self.kl:.2g}{tail} nats a {self.unit} (limit {self.limit:g}, largest "
            f"{self.largest:.2g}), top-1 agreement {self.top1:.2%}, {self.tokens} {self.unit}s "
            f"in {self.texts} texts, through {self.runtime}"
        )


@contextmanager
def trainers_words(scorer: Scorer, texts: Texts) -> Iterator[list[NDArray[np.float32]]]:
    """The trainer's logits of every text, kept in a file while they are compared with.

    So that the trainer's model need not stay in memory beside the exported one.
    """
    with tempfile.TemporaryDirectory(prefix="palate-parity-") as folder:
        yield [
            _kept(Path(folder) / f"{number}.npy", scorer(text))
            for number, text in enumerate(texts.items)
        ]


def _kept(path: Path, rows_SV: NDArray[np.float32]) -> NDArray[np.float32]:
    np.save(path, rows_SV, allow_pickle=False)
    kept: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return kept


def measure(
    trainer: Sequence[NDArray[np.float32]],
    exported: Scorer,
    texts: Texts,
    *,
    runtime: str,
    limit: float,
) -> Parity:
    """Compare the exported model's logits with the trainer's on every text.

    Raises `NotFaithful` where their vocabularies differ in size.
    """
    sums: list[float] = []
    counts: list[int] = []
    largest, same = 0.0, 0
    for ours_SV, text in zip(trainer, texts.items, strict=True):
        theirs_SV = exported(text)
        if theirs_SV.shape != ours_SV.shape:
            raise NotFaithful(
                f"the exported model has logits of shape {theirs_SV.shape} through {runtime}, the "
                f"trainer's {ours_SV.shape}"
            )
        kl_S = divergence(ours_SV, theirs_SV)
        sums.append(float(kl_S.sum()))
        counts.append(len(kl_S))
        largest = max(largest, float(kl_S.max()))
        same += int((ours_SV.argmax(-1) == theirs_SV.argmax(-1)).sum())
    total = sum(counts)
    mean = sum(sums) / total
    return Parity(
        runtime=runtime,
        origin=texts.origin,
        kl=mean,
        error=_error(sums, counts, mean),
        largest=largest,
        top1=same / total,
        tokens=total,
        texts=len(texts.items),
        limit=limit,
        unit=texts.unit,
    )


def divergence(ours_SV: NDArray[np.float32], theirs_SV: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(ours ‖ theirs) [S] of rows of logits [S, V]; infinite where a logit is no number."""
    out = np.empty(len(ours_SV))
    for row, (ours, theirs) in enumerate(zip(ours_SV, theirs_SV, strict=True)):
        log_p, log_q = _log_softmax(ours), _log_softmax(theirs)
        out[row] = float(np.sum(np.exp(log_p) * (log_p - log_q)))
    # Rounding may leave a value a little below 0.
    return np.where(np.isfinite(out), np.maximum(out, 0.0), math.inf)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max()
    x -= np.log(np.exp(x).sum())
    return x


def _error(sums: Sequence[float], counts: Sequence[int], mean: float) -> float | None:
    """The standard error of a ratio of sums over texts; tokens of one text are not independent."""
    n = len(sums)
    if n < 2 or not math.isfinite(mean):
        return None
    rest = sum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    return math.sqrt(rest * n / (n - 1)) / sum(counts)


def check_tokens(ids_of: Callable[[str], list[int]], texts: Texts, runtime: str) -> int:
    """How many prompts the runtime was seen to encode as the trainer does.

    Raises `NotFaithful` at the first difference: the model would read other tokens than it
    was trained on.
    """
    prompts = {text.prompt: text.prompt_ids for text in texts.items if text.prompt}
    for prompt, ours in prompts.items():
        theirs = tuple(ids_of(prompt))
        if theirs != ours:
            at = next(
                (i for i, pair in enumerate(zip(theirs, ours, strict=False)) if len(set(pair)) > 1),
                min(len(theirs), len(ours)),
            )
            raise NotFaithful(
                f"{runtime} encodes a held-out prompt otherwise than the trainer: token {at} is "
                f"{theirs[at : at + 3]} and not {ours[at : at + 3]} ({len(theirs)} tokens against "
                f"{len(ours)})"
            )
    return len(prompts)


def check_words(text_of: Callable[[Sequence[int]], str], tokenizer: Any, texts: Texts) -> None:
    """Raise `NotFaithful` where a runtime writes an answer's ids in other words than ours.

    What the model would say is looked at here, as what it would read is in `check_tokens`.
    """
    for text in texts.items:
        answer = [text.ids[t] for t in text.scored]
        ours = tokenizer.decode(
            answer, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        theirs = text_of(answer)
        if theirs.strip() != ours.strip():
            raise NotFaithful(
                f"the runtime writes a held-out answer's tokens as {theirs[:60]!r} and the trainer "
                f"as {ours[:60]!r}"
            )
