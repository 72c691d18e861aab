"""Do those who judged follow the same taste?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, listed, percent, shown_text
from palate.curate.lint.shares import Floats, effective_count, share, wilson
from palate.curate.lint.view import View

CHECK = "judges"
LEAST = 30  # contests by one judge
# Two judges of whom one likes the longer answer in this many more cases, for certain.
APART = 0.15


def check(view: View) -> Iterator[Number | Finding]:
    """How far the judges are apart in how often they prefer the longer answer.

    `Verdict.by` names the judge, and only those with 30 pairs or more count. The two furthest
    apart are compared, with Newcombe's interval (1998, Statistics in Medicine 17:873) at a
    confidence that holds for all comparisons.
    """
    contests = view.contests
    if view.shape != "pair" or not len(contests):
        return
    verdicts = [view.examples[index].verdict for index in view.where(contests.winners)]
    by_N = np.array([verdict.by if verdict else "" for verdict in verdicts])
    counts = Counter(by_N.tolist())
    names = sorted(name for name, count in counts.items() if count >= LEAST)
    most = shown_text(counts.most_common(1)[0][0])
    top = np.array([name == counts.most_common(1)[0][0] for name in by_N.tolist()], np.float64)
    yield share(CHECK, f"verdicts by {most}, the most frequent", top, contests.groups)
    if len(names) < 2:
        return
    longer_N = np.sign(view.lengths[contests.winners] - view.lengths[contests.losers]) / 2 + 0.5
    family = len(names) * (len(names) - 1) // 2
    rates = {name: float(longer_N[by_N == name].mean()) for name in names}
    low_name, high_name = min(names, key=rates.__getitem__), max(names, key=rates.__getitem__)
    number = _apart(view, longer_N, by_N == high_name, by_N == low_name, family)
    yield number
    if number.low <= APART:
        return
    shown = [at for at in range(len(by_N)) if by_N[at] in {low_name, high_name}]
    yield Finding(
        CHECK,
        "warning",
        number,
        f"Verdicts by {shown_text(high_name)} prefer the longer answer in "
        f"{percent(rates[high_name])}, those by {shown_text(low_name)} in "
        f"{percent(rates[low_name])}: {number.said} apart. They do not follow one taste, and the "
        "model learns the mixture.",
        f"Look at pairs of each ({listed(names)}), decide whose taste counts, and train on that "
        "judge's verdicts; or agree on what is judged, and judge again.",
        view.ids(view.where(contests.winners[np.array(shown[:SHOWN])])),
    )


def _apart(view: View, longer_N: Floats, high_N: Floats, low_N: Floats, family: int) -> Number:
    confidence = 1 - 0.05 / family
    values, bounds = [], []
    for mine_N in (high_N, low_N):
        hits = longer_N[mine_N]
        count = effective_count(hits, view.contests.groups[mine_N], confidence)
        values.append(float(hits.mean()))
        bounds.append(wilson(values[-1], count, confidence))
    difference = values[0] - values[1]
    down = ((values[0] - bounds[0][0]) ** 2 + (bounds[1][1] - values[1]) ** 2) ** 0.5
    up = ((bounds[0][1] - values[0]) ** 2 + (values[1] - bounds[1][0]) ** 2) ** 0.5
    name = "difference of two judges in how often the longer answer wins"
    count = int(high_N.sum() + low_N.sum())
    return Number(CHECK, name, difference, max(-1.0, difference - down), difference + up, count)
