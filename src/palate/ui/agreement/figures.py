"""What the votes say, as JSON-ready facts: the figures of each question and of each annotator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from palate.evaluate.annotators import (
    NOBODY_TWICE,
    Figure,
    alpha_figure,
    raw_agreement,
    share_figure,
    sign_test,
)
from palate.judge.agreement import Agreement
from palate.judge.annotators import (
    BOTH_BAD,
    TIE,
    Repeats,
    Table,
    Vote,
    against_people,
    by_item,
    pairwise,
    people,
    placed,
    repeats,
)
from palate.judge.krippendorff import Metric
from palate.ui.agreement.votes import Said, Votes

MOST_ROWS = 40
"""Annotators, and pairs of them, that a page lists: those with the most votes."""

Facts = dict[str, Any]


def figures(votes: Votes) -> Facts:
    """Everything but the queue."""
    questions = [("pairs", votes.pairs), ("singles", votes.singles)]
    listed = _annotators(votes)
    return {
        "counts": {
            "pairs": len(votes.pairs),
            "singles": len(votes.singles),
            "settled": len(votes.settled),
            "unnamed": votes.unnamed,
        },
        "annotators": listed[:MOST_ROWS],
        "annotators_in_all": len(listed),
        "questions": [_question(name, said) for name, said in questions if said],
    }


def _question(name: str, said: Sequence[Said]) -> Facts:
    """The figures of all votes on two answers, or of all on single ones."""
    table = by_item(one.vote for one in said)
    ours = people(table)
    units = [[vote.word for vote in voices.values()] for voices in ours.values()]
    alphas = [_alpha("nominal", "the words as they are", units)]
    if name == "pairs":
        steps = [
            [v.step for v in voices.values() if v.step is not None] for voices in ours.values()
        ]
        what = "the steps from clearly one to clearly the other; without both bad"
        alphas.append(_alpha("ordinal", what, steps))
    kappas = sorted(pairwise(ours).items(), key=lambda pair: (-pair[1].count, pair[0]))
    return {
        "question": name,
        "voted": len(ours),
        "shared": sum(len(unit) > 1 for unit in units),
        "people": len({by for voices in ours.values() for by in voices}),
        "raw": asdict(raw_agreement(units)),
        "alphas": alphas,
        "kappas": [{"one": a, "other": b, **_kappa(k)} for (a, b), k in kappas[:MOST_ROWS]],
        "kappas_in_all": len(kappas),
        "judges": _judges(table),
    }


def _judges(table: Table) -> list[Facts]:
    nobody = "no item has both its word and a majority of people"
    return [
        {"judge": judge, **_kappa(found, nobody)} for judge, found in against_people(table).items()
    ]


def _alpha(metric: Metric, what: str, units: Sequence[Sequence[Any]]) -> Facts:
    figure = alpha_figure(units, metric)
    return {"metric": metric, "what": what, **asdict(figure), "reads": reading(figure.value)}


def reading(alpha: float | None) -> str:
    """α in one plain sentence."""
    if alpha is None:
        return ""
    if alpha < 0:
        return f"People disagree {-100 * alpha:.0f} % more than if votes were dealt out at random."
    if round(100 * alpha) == 0:
        return "People disagree as much as if votes were dealt out at random."
    return (
        f"Of the disagreement that there would be if votes were dealt out at random, "
        f"{100 * alpha:.0f} % is not there."
    )


def _kappa(found: Agreement, nobody: str = NOBODY_TWICE) -> Facts:
    """Raw agreement and κ of two, each with what it lacks."""
    raw = share_figure(found.same, found.count, nobody)
    if not found.count:
        kappa = Figure(None, None, None, 0, nobody)
    elif found.kappa is None:
        kappa = Figure(None, None, None, found.count, "every vote is the same word")
    elif found.low == found.high:  # as where all agree, or all differ: it is no certainty
        kappa = Figure(found.kappa, None, None, found.count, "no interval: too few, or too alike")
    else:
        kappa = Figure(found.kappa, found.low, found.high, found.count)
    return {"count": found.count, "raw": asdict(raw), "kappa": asdict(kappa)}


def _annotators(votes: Votes) -> list[Facts]:
    """Each annotator's votes, the busiest first; judges after people."""
    every = [*votes.pairs, *votes.singles]
    number, latest = Counter(one.vote.by for one in every), {one.vote.by: one.time for one in every}
    pairs = [one.vote for one in votes.pairs]
    said = {word: Counter(v.by for v in pairs if v.word == word) for word in (TIE, BOTH_BAD)}
    singles = Counter(one.vote.by for one in votes.singles)
    places, again = placed(pairs), repeats(one.vote for one in every)
    names = sorted(number, key=lambda by: (Vote("", by, "").judged, -number[by], by))
    return [
        {
            "name": by,
            "judge": Vote("", by, "").judged,
            "votes": number[by],
            "pairs": number[by] - singles[by],
            "singles": singles[by],
            "ties": said[TIE][by],
            "both_bad": said[BOTH_BAD][by],
            "latest": latest[by],
            "position": _position(*places.get(by, (0, 0))),
            "again": _again(again.get(by, Repeats())),
        }
        for by in names
    ]


def _position(first: int, other: int) -> Facts:
    """The share of votes for the answer that stood first, and how likely such a one is of none."""
    figure = share_figure(first, first + other, "of no vote for one answer is the place recorded")
    return {**asdict(figure), "p": sign_test(first, first + other) if first + other else None}


def _again(found: Repeats) -> Facts:
    """How often the same word was said again, and of the items whose sides were swapped."""
    figure = share_figure(found.same, found.count, "no item was shown twice")
    swapped = share_figure(found.swapped_same, found.swapped, "none was shown with swapped sides")
    return {**asdict(figure), "swapped": asdict(swapped)}
