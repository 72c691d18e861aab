"""What an answer's words tell without a judge: does it repeat itself?"""

from __future__ import annotations

from collections.abc import Iterable

from palate.evaluate.counting import words_of


def repetition(texts: Iterable[str], n: int = 4) -> float | None:
    """1 − distinct sequences of `n` words over all of them, in each text; the mean over texts.

    seq-rep-4 of Welleck et al. 2020 (arXiv:1908.04319, section 6), over words instead of tokens.
    0 says that no text repeats one, near 1 that it turns in a circle. Texts shorter than `n` words
    are left out, for they can neither repeat nor not; 0 where all are. None without texts.
    """
    listed = [words_of(text) for text in texts]
    grams = [list(zip(*(words[at:] for at in range(n)), strict=False)) for words in listed]
    shares = [1 - len(set(found)) / len(found) for found in grams if found]
    if not listed:
        return None
    return sum(shares) / len(shares) if shares else 0.0
