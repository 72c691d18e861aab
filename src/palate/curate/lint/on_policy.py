"""How many of the answers are such as the model would write itself?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import Floats, share
from palate.curate.lint.target import TargetModel
from palate.curate.lint.view import View

CHECK = "on-policy"
SCORED = 64  # examples: a share is then known to about ten points, and no model works for hours
# Its own samples lie above their 5 % quantile in 19 of 20 cases, by definition.
QUANTILE = 0.05
BELOW = 0.5  # most of the answers are another writer's
LEAST = 20
_DRAWS = 2000
_CURE = (
    "Let the model itself answer these prompts, several times each, and have those answers ranked; "
    "or train with method=sft on the chosen answers first, so that they become its own."
)


def check(view: View) -> Iterator[Number | Finding]:
    """The share of answers by the model's names, and of those as likely to it as its own.

    An answer counts as its own if the mean log-prob of its tokens is at least the 5 % quantile of
    what the model gives to the answers that it samples to the same prompts itself. The interval
    is a bootstrap's over prompts and samples. Nothing is said without a model.
    """
    if view.model is None:
        return
    yield from _by_name(view, view.model)
    yield from _by_likelihood(view, view.model)


def _by_name(view: View, model: TargetModel) -> Iterator[Number | Finding]:
    known = [answer for answer in view.answers if answer.completion.source]
    if not model.names or len(known) < LEAST:
        return
    names = {name.casefold() for name in model.names}
    hits = np.array([str(a.completion.source).casefold() in names for a in known], np.float64)
    groups = view.clusters[np.array([answer.example for answer in known])]
    number = share("source", f"answers whose source is {model.name}", hits, groups)
    yield number
    if number.high < BELOW and model.logprobs is None:
        others = [a.example for a, hit in zip(known, hits, strict=True) if not hit]
        yield Finding(
            CHECK,
            "note",
            number,
            f"Of the answers that name their writer, {number.said} are by {model.name}: the rest "
            "is another model's, and preferences about it move this one less.",
            _CURE,
            view.ids(others[:SHOWN]),
        )


def _by_likelihood(view: View, model: TargetModel) -> Iterator[Number | Finding]:
    if model.logprobs is None or model.own is None or len(view.examples) < LEAST:
        return
    draw = random.Random(view.seed)
    count = min(SCORED, len(view.examples))
    chosen = sorted(draw.sample(range(len(view.examples)), count))
    examples = [view.examples[index] for index in chosen]
    scored = [np.array(values, np.float64) for values in model.logprobs(examples)]
    own = np.array(model.own(examples), np.float64)
    own = own[np.isfinite(own)]
    chosen = [index for index, values in zip(chosen, scored, strict=True) if len(values)]
    given = [values for values in scored if len(values)]
    if min(len(own), len(given)) < LEAST:
        return
    number = _within(given, own, model.name, view.seed)
    yield number
    if number.high >= BELOW:
        return
    limit = float(np.quantile(own, QUANTILE))
    means = [float(values.mean()) for values in given]
    order = sorted(range(len(given)), key=lambda at: means[at])
    unlike = [chosen[at] for at in order if means[at] < limit]
    yield Finding(
        CHECK,
        "note",
        number,
        f"{number.said} of {number.of} answers are as likely to {model.name} as what it writes "
        f"itself (a mean log-prob of {limit:.2f} nats a token or more): it would hardly ever say "
        "the others, so preferring one of them to another changes little of what it says.",
        _CURE,
        view.ids(unlike[:SHOWN]),
    )


def _within(given: Sequence[Floats], own: Floats, name: str, seed: int) -> Number:
    """The share of answers at or above the quantile, both drawn anew for the interval."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(values) for values in given], dtype=np.int64)
    flat, of = np.concatenate(given), np.repeat(np.arange(len(given)), sizes)
    shares = []
    for _ in range(_DRAWS):
        limit = np.quantile(own[rng.integers(len(own), size=len(own))], QUANTILE)
        above = np.bincount(of, weights=flat >= limit, minlength=len(given))
        at = rng.integers(len(given), size=len(given))
        shares.append(above[at].sum() / sizes[at].sum())
    value = float(np.mean(flat >= np.quantile(own, QUANTILE)))
    low, high = (float(bound) for bound in np.quantile(shares, [0.025, 0.975]))
    label = f"answers as likely to {name} as its own"
    return Number(CHECK, label, value, min(low, value), max(high, value), int(sizes.sum()))
