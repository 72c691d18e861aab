"""The divergence by hand, and what the gate makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from palate.ship.parity import (
    LIMITS,
    NotFaithful,
    check_tokens,
    check_words,
    divergence,
    measure,
    trainers_words,
)
from palate.ship.texts import Text, Texts

LN2 = math.log(2)


def logits(*rows: list[float]) -> Any:
    """Logits that are log-probs of these shares, and shifted: a constant changes nothing."""
    return np.log(np.array(rows, dtype=np.float64)).astype(np.float32) + np.float32(3)


def test_the_divergence_of_two_coins() -> None:
    """KL((1/2, 1/2) ‖ (1/4, 3/4)) = ½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln 2 + ½ ln ⅔ = ½ ln(4/3)."""
    ours, theirs = logits([0.5, 0.5], [0.5, 0.5]), logits([0.25, 0.75], [0.5, 0.5])
    assert divergence(ours, theirs) == pytest.approx([math.log(4 / 3) / 2, 0], abs=1e-6)
    # The other way round: ¼ ln(¼ / ½) + ¾ ln(¾ / ½) = ¾ ln 3 − ln 2.
    assert divergence(theirs, ours)[0] == pytest.approx(0.75 * math.log(3) - LN2, abs=1e-6)


def test_the_mean_is_over_tokens_and_the_error_over_texts() -> None:
    """Two texts, of one token with KL k and of three with none: mean k / 4.

    The ratio's error: √(n / (n − 1) · Σ (s − mean · c)²) / Σ c with the sums s = k, 0 and the
    counts c = 1, 3: √(2 · ((¾ k)² + (¾ k)²)) / 4 = (2 · ¾ k) / 4 = ⅜ k.
    """
    same, odd = [0.5, 0.5], [0.25, 0.75]
    texts = Texts((Text((1, 2), (1,)), Text((1, 2, 3, 4), (1, 2, 3))), "two texts")
    rows = {2: logits(odd), 4: logits(same, same, odd)}
    ours = {2: logits(same), 4: logits(same, same, odd)}
    with trainers_words(lambda text: ours[len(text.ids)], texts) as words:
        found = measure(words, lambda text: rows[len(text.ids)], texts, runtime="x", limit=0.1)
    k = math.log(4 / 3) / 2
    assert found.kl == pytest.approx(k / 4, abs=1e-6)
    assert found.error == pytest.approx(3 * k / 8, abs=1e-6)
    assert found.largest == pytest.approx(k, abs=1e-6)
    # A tie of the trainer's goes to the first; the odd coin prefers the second.
    assert found.top1 == 3 / 4
    assert (found.tokens, found.texts, found.passed) == (4, 2, True)
    assert not measure([rows[2]], lambda _: ours[2], _one(), runtime="x", limit=0.01).passed


def _one() -> Texts:
    return Texts((Text((1, 2), (1,)),), "one text")


def test_what_is_no_number_does_not_pass() -> None:
    bad = np.array([[np.nan, 0.0]], dtype=np.float32)
    found = measure([logits([0.5, 0.5])], lambda _: bad, _one(), runtime="x", limit=1e9)
    assert found.kl == math.inf
    assert not found.passed
    assert found.error is None


def test_another_vocabulary_is_refused() -> None:
    wide = np.zeros((1, 3), dtype=np.float32)
    with pytest.raises(NotFaithful, match=r"logits of shape \(1, 3\)"):
        measure([logits([0.5, 0.5])], lambda _: wide, _one(), runtime="x", limit=1.0)


def test_tokens_of_prompts() -> None:
    texts = Texts((Text((1, 2, 9), (2,), "ab", (1, 2)), Text((1, 2, 8), (2,), "ab", (1, 2))), "")
    assert check_tokens(lambda _: [1, 2], texts, "x") == 1
    with pytest.raises(NotFaithful, match=r"token 1 is \(3,\) and not \(2,\)"):
        check_tokens(lambda _: [1, 3], texts, "x")
    with pytest.raises(NotFaithful, match=r"\(3 tokens against 2\)"):
        check_tokens(lambda _: [1, 2, 3], texts, "x")


def test_words_of_answers() -> None:
    class Letters:
        def decode(self, ids: list[int], **_: object) -> str:
            return " ".join(map(str, ids))

    texts = Texts((Text((1, 2, 3), (1, 2)),), "")
    check_words(lambda ids: f"{ids[0]} {ids[1]} ", Letters(), texts)
    with pytest.raises(NotFaithful, match="writes a held-out answer's tokens as '3 2'"):
        check_words(lambda ids: f"{ids[1]} {ids[0]}", Letters(), texts)


def test_less_bits_may_be_further_away() -> None:
    """The order of the limits is that of the formats' bits."""
    order = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
    limits = [LIMITS[name] for name in order]
    assert limits == sorted(limits)
