"""Whose answer is better, the model's or its base's? A judge says, and intervals say how sure.

Each answer is held against the base's answer of the same number to the same prompt. Judges of pairs
are asked in both orders (`palate.judge.orders`); a judge of single answers compares scores. Equal
answers are a tie that nobody is asked about. What a judge could not tell is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.evaluate.counting import words_of
from palate.evaluate.measure.answering import Spoken
from palate.evaluate.measure.kept import kept_rows
from palate.evaluate.measure.length_control import controlled
from palate.evaluate.measure.paired import sign_flip
from palate.evaluate.shares import clustered_interval
from palate.judge.opinion import Opinion, PairJudge, Question
from palate.records import Example, digest
from palate.resumable import Row

GROUP = 16
"""Comparisons between two writes."""
MOST_FAILED = 0.1
"""Share of comparisons on which a judge may fail: those that it can tell are a fair sample then."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Two answers to one prompt, and P(the model's is better); None with a `failure`."""

    group: str
    wins: float | None
    words: int
    base_words: int
    failure: str | None = None


def duels(
    examples: Sequence[Example],
    model: Sequence[Sequence[Spoken]],
    base: Sequence[Sequence[Spoken]],
    judge: PairJudge,
    identity: str,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Duel]:
    """The judge's word on every pair of answers; `identity` tells judges apart in the cache.

    Raises as the judge does; what it said before is kept, and where it failed it is asked again.
    """
    met = [
        (example, mine.text, theirs.text)
        for example, ours, others in zip(examples, model, base, strict=True)
        for mine, theirs in zip(ours, others, strict=True)
        if mine.failure is None and theirs.failure is None
    ]

    def work(group: Sequence[tuple[Example, str, str]], _: int) -> list[Row]:
        asked = [Question(*one) for one in group if one[1] != one[2]]
        said = iter(judge.compare(asked) if asked else ())
        opinions = [Opinion(0.5) if one[1] == one[2] else next(said) for one in group]
        advance(len(group))
        return [{"wins": o.first_wins, "failure": o.failure, "raw": list(o.raw)} for o in opinions]

    texts = digest([[e.to_dict(), first, second] for e, first, second in met])[:24]
    rows = kept_rows(
        "wins",
        {"judge": identity, "texts": texts},
        met,
        GROUP,
        work,
        advance,
        again=lambda row: row["wins"] is None,
    )
    return [
        Duel(
            example.prompt_key,
            row["wins"],
            len(words_of(mine)),
            len(words_of(theirs)),
            row["failure"],
        )
        for (example, mine, theirs), row in zip(met, rows, strict=True)
    ]


def win_rate(found: Sequence[Duel], seed: int = 0) -> dict[str, Any] | None:
    """The share of comparisons that the model wins, a tie counting half; and what it hangs on.

    `interval` is `shares.clustered_interval`'s over prompts. `p` is of the paired sign-flip test
    that both are as good. `controlled` is the win rate at equal length. None where more than a
    tenth of the comparisons has no verdict, and where there is none.
    """
    told = [duel for duel in found if duel.wins is not None]
    if not told or len(found) - len(told) > MOST_FAILED * len(found):
        return None
    prompts = sorted({duel.group for duel in told})
    place = {group: row for row, group in enumerate(prompts)}
    values_GC = np.zeros((len(prompts), 2))
    for duel in told:
        values_GC[place[duel.group]] += (duel.wins or 0.0, 1.0)
    rate = float(values_GC[:, 0].sum() / values_GC[:, 1].sum())
    means_G = values_GC[:, 0] / values_GC[:, 1]
    return {
        "comparisons": len(told),
        "prompts": len(prompts),
        "failed": len(found) - len(told),
        "failures": sorted({d.failure or "no verdict" for d in found if d.wins is None}),
        "wins": sum(d.wins > 0.5 for d in told if d.wins is not None),
        "ties": sum(d.wins == 0.5 for d in told),
        "losses": sum(d.wins < 0.5 for d in told if d.wins is not None),
        "rate": rate,
        "interval": list(clustered_interval(values_GC, seed)),
        "p": sign_flip(means_G - 0.5, seed),
        "controlled": controlled(
            np.array([duel.wins for duel in told], dtype=float),
            np.array([duel.words - duel.base_words for duel in told], dtype=float),
            np.array([place[duel.group] for duel in told]),
            seed,
        ),
    }
