"""Are the prompts many, or few in many copies?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, shown_text
from palate.curate.lint.shares import Floats, share
from palate.curate.lint.text import key, words
from palate.curate.lint.view import View

LEAST = 40  # distinct prompts
# One prompt in ten that only rewords another: each such group counts as one when the model learns
# and when it is measured.
NEAR_ABOVE = 0.10
# A group of near-duplicates with a twentieth of the examples outweighs all other prompts.
LARGEST_ABOVE, LARGEST_LEAST = 0.05, 10
# Two prompts that begin alike in more than one of ten draws: fewer than ten openings in effect.
ALIKE_ABOVE = 0.10
# Of a draw of prompts, a quarter in effect. Of 100 real queries about one matter (an intent of
# banking77) 15 to 26 are; of all its 77 matters 46 to 52, of general instructions 42 to 57.
TOPICS_BELOW = 0.25
DRAWN, DRAWS = 100, 10  # prompts of one draw, and draws
_T_NINE = 2.262  # Student's quantile: where one more draw would lie
_DISTINCT_OF = 10_000  # pairs of words: the ratio falls with the length of what is counted


def check(view: View) -> Iterator[Number | Finding]:
    """Near-duplicates, the largest group, openings, topics, and distinct pairs of words."""
    distinct = _distinct(view)
    if not distinct:
        return
    yield from _near(view, distinct)
    yield from _largest(view)
    if len(distinct) >= LEAST:
        yield from _openings(view, distinct)
        yield from _topics(view, distinct)
        yield _distinct_pairs(view, distinct)


def _distinct(view: View) -> list[int]:
    """One example for each distinct prompt; case, spaces and punctuation do not count."""
    first: dict[bytes, int] = {}
    for index, prompt in enumerate(view.prompts):
        first.setdefault(key(prompt), index)
    return list(first.values())


def _near(view: View, distinct: Sequence[int]) -> Iterator[Number | Finding]:
    of = view.clusters[np.array(distinct)]
    sizes = Counter(of.tolist())
    near = [
        index for index, cluster in zip(distinct, of.tolist(), strict=True) if sizes[cluster] > 1
    ]
    hits = np.zeros(len(distinct))
    hits[: len(near)] = 1
    name = "distinct prompts that only reword another one"
    number = share("near-duplicates", name, hits)
    yield number
    if number.low > NEAR_ABOVE:
        yield Finding(
            number.check,
            "warning",
            number,
            f"{len(near)} of {len(distinct)} distinct prompts ({number.said}) say "
            "nearly the words of another one: there is less to learn from than the count says.",
            "Collect prompts of other kinds, or keep one of each group "
            "(data.filters.near_duplicates=drop does so for whole pairs); set "
            "data.split_by=cluster, so that no group is on both sides.",
            view.ids(near[:SHOWN]),
        )


def _largest(view: View) -> Iterator[Number | Finding]:
    cluster, _ = Counter(view.clusters.tolist()).most_common(1)[0]
    inside = view.clusters == cluster
    number = share("largest-group", "examples under the most frequent prompt", inside * 1.0)
    yield number
    if number.low > LARGEST_ABOVE and inside.sum() >= LARGEST_LEAST:
        members = np.flatnonzero(inside).tolist()
        shown = shown_text(view.prompts[members[0]])
        yield Finding(
            number.check,
            "warning",
            number,
            f"One prompt and its near-duplicates, such as \u201c{shown}\u201d, have {number.said} "
            "of the examples: they outweigh everything else.",
            "Keep a few of them, or collect more of the others.",
            view.ids(members[:SHOWN]),
        )


def _openings(view: View, distinct: Sequence[int]) -> Iterator[Number | Finding]:
    begins = [" ".join(words(_last_turn(view, index)[:200])[:3]) for index in distinct]
    counts = Counter(begins)
    number = _alike(np.array(list(counts.values()), dtype=np.float64))
    yield number
    if number.low > ALIKE_ABOVE:
        most = counts.most_common(1)[0][0]
        yield Finding(
            number.check,
            "note",
            number,
            f"Two prompts drawn at random begin with the same three words in {number.said} of "
            f"draws, as if there were only {1 / number.value:.0f} openings; the most frequent "
            f"is \u201c{shown_text(most)}\u201d.",
            "If the product's users ask in other ways too, add such prompts: what is learned from "
            "one template is often only used with it.",
            view.ids(
                [i for i, begin in zip(distinct, begins, strict=True) if begin == most][:SHOWN]
            ),
        )


def _alike(counts: Floats) -> Number:
    """The chance that two of them are equal, Σ n(n − 1) / N(N − 1), with a jackknife's interval.

    The estimate has no bias (Simpson 1949, Nature 163:688).
    """
    total = float(counts.sum())
    equal = float((counts * (counts - 1)).sum())
    value = equal / (total * (total - 1))
    without = (equal - 2 * (counts - 1)) / ((total - 1) * (total - 2))
    mean = float((counts * without).sum()) / total
    variance = (total - 1) / total * float((counts * (without - mean) ** 2).sum())
    reach = 1.96 * variance**0.5
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    name = "two prompts that begin with the same three words"
    return Number("openings", name, value, low, high, int(total))


def _topics(view: View, distinct: Sequence[int]) -> Iterator[Number | Finding]:
    size = min(DRAWN, len(distinct) // 2)
    draw = random.Random(view.seed)
    found = [
        _vendi([view.prompts[index] for index in draw.sample(list(distinct), size)])
        for _ in range(DRAWS)
    ]
    middle, reach = float(np.mean(found)), _T_NINE * float(np.std(found, ddof=1))
    low, high = max(1.0, middle - reach), min(float(size), middle + reach)
    name = f"effective number of prompts in a draw of {size} (Vendi score)"
    number = Number("topics", name, middle, low, high, len(distinct), "number")
    yield number
    if number.high < TOPICS_BELOW * size:
        yield Finding(
            number.check,
            "note",
            number,
            f"A draw of {size} prompts is as varied as {number.said} prompts that have no word in "
            "common: nearly all are about the same.",
            "If the model should do more than this one task, add prompts of other kinds.",
            view.ids(list(distinct)[:SHOWN]),
        )


def _vendi(texts: Sequence[str]) -> float:
    """exp of the entropy of the eigenvalues of K/n (Friedman and Dieng 2023, arXiv 2210.02410).

    K holds the cosine similarities of the texts' words, each counted by the log: n for n texts
    without a common word, 1 for equal ones. Frequent words are not weighed down, because what a
    template repeats would then hardly count.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        counted = TfidfVectorizer(analyzer=words, sublinear_tf=True, use_idf=False)
        vectors = counted.fit_transform(texts)
    except ValueError:  # not one word in any of them
        return 1.0
    kernel = (vectors @ vectors.T).toarray() / len(texts)
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _distinct_pairs(view: View, distinct: Sequence[int]) -> Number:
    """Distinct pairs of neighbouring words among the first 10,000 (distinct-2, Li et al. 2016)."""
    order = list(distinct)
    random.Random(view.seed).shuffle(order)
    pairs: list[tuple[str, str]] = []
    for index in order:
        said = words(view.prompts[index])
        pairs += pairwise(said)
        if len(pairs) >= _DISTINCT_OF:
            break
    pairs = pairs[:_DISTINCT_OF]
    hits = np.zeros(max(1, len(pairs)))
    hits[: len(set(pairs))] = 1
    return share("distinct-2", "distinct pairs of words in the prompts", hits)


def _last_turn(view: View, index: int) -> str:
    users = [m.content for m in view.examples[index].prompt if m.role == "user"]
    return users[-1] if users else view.prompts[index]
