"""Does length alone decide who wins?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, percent, severity_of, worth
from palate.curate.lint.shares import Floats, mean_difference, share
from palate.curate.lint.view import FOLDS, Contests, TokenCount, View

CHECK = "length"
LEAST = 20  # contests
# A rule with a target length must beat "longer" and "shorter" by this much to be told instead.
BETTER_BY = 0.02
_QUANTILES = np.linspace(0, 1, 21)


def check(view: View) -> Iterator[Number | Finding]:
    """The accuracy of "the longer answer wins", and of "the answer nearer to L words wins".

    L is chosen on the other folds among 21 quantiles of the lengths; equal lengths count one half.
    With a tokenizer the first is measured in tokens too, and the larger of the two counts.
    """
    contests = view.contests
    if len(contests) < LEAST:
        return
    longer_N = _longer(view.lengths, contests)
    simple = share(CHECK, "the longer answer wins", longer_N, contests.groups)
    yield simple
    if view.tokens is not None:
        tokens_N = _longer(_tokens(view, view.tokens), contests)
        number = share(CHECK, "the answer with more tokens wins", tokens_N, contests.groups)
        yield number
        if abs(number.value - 0.5) > abs(simple.value - 0.5):
            simple, longer_N = number, tokens_N
    nearer_N, target = _nearest(view.lengths, contests)
    nearest = share(
        CHECK, f"the answer nearer to {target:.0f} words wins", nearer_N, contests.groups
    )
    yield nearest
    yield from _judged(view, simple, longer_N, nearest, nearer_N)


def _judged(
    view: View, simple: Number, longer_N: Floats, nearest: Number, nearer_N: Floats
) -> Iterator[Finding]:
    contests = view.contests
    rule, hits_N = simple, longer_N
    if simple.value < 0.5:
        name = simple.name.replace("longer", "shorter").replace("more", "fewer")
        hits_N = 1 - longer_N
        rule = share(CHECK, name, hits_N, contests.groups)
    gain = mean_difference(CHECK, "", nearer_N - hits_N, contests.groups)
    if gain.low > 0 and gain.value > BETTER_BY:
        rule, hits_N = nearest, nearer_N
    severity = severity_of(rule.low)
    if severity is None:
        return
    right = contests.winners[np.flatnonzero(hits_N == 1)]
    yield Finding(
        CHECK,
        severity,
        rule,
        f"Length alone predicts the winner: {rule.name} in {rule.said} of {rule.of} contests. A "
        f"model can win {percent(worth(rule.value))} of the loss by writing to that length.",
        "Make pairs of about equal length (drop or re-sample the most unequal ones), or train with "
        "a method that takes length out: method=length-dpo, ld-dpo or simpo.",
        view.ids(view.where(right[:SHOWN])),
    )


def _tokens(view: View, count: TokenCount) -> Floats:
    """Tokens of the answers that meet in a contest; 0 for the others."""
    met = np.union1d(view.contests.winners, view.contests.losers).tolist()
    counts = np.zeros(len(view.answers))
    counts[met] = [count(view.answers[at].text) for at in met]
    return counts


def _longer(lengths: Floats, contests: Contests) -> Floats:
    return (np.sign(lengths[contests.winners] - lengths[contests.losers]) + 1) / 2


def _nearest(lengths: Floats, contests: Contests) -> tuple[Floats, float]:
    """Hits of the target length that was best on the other folds; the target over all."""
    both = np.concatenate([lengths[contests.winners], lengths[contests.losers]])
    targets_K = np.unique(np.quantile(both, _QUANTILES))
    far_NK = [
        np.abs(np.log1p(lengths[side])[:, None] - np.log1p(targets_K)[None])
        for side in (contests.winners, contests.losers)
    ]
    hits_NK = (np.sign(far_NK[1] - far_NK[0]) + 1) / 2
    hits_N = np.full(len(contests), 0.5)
    for fold in range(FOLDS):
        outside = contests.folds == fold
        hits_N[outside] = hits_NK[outside, _best(hits_NK[~outside])]
    return hits_N, float(targets_K[_best(hits_NK)])


def _best(hits_NK: Floats) -> int:
    means: Floats = hits_NK.mean(axis=0) if len(hits_NK) else np.zeros(hits_NK.shape[1])
    return int(np.argmax(means))
