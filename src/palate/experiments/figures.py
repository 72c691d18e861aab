"""From the frontier's runs to figures: means over seeds with their spread, and the drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.durable import write_json, write_text
from palate.experiments.frontier import Ground
from palate.experiments.world import Frontier

FIGURES, PLOT = "figures.json", "frontier.svg"
_POINTS = 60  # of the frontier's curve


@dataclass(frozen=True, slots=True)
class Mean:
    """A setting over its seeds: means, and standard deviations from seed to seed (0 of one seed).

    `share` is of the oracle's gain at equal KL, `above` the most that a run was above the frontier.
    """

    setting: str
    line: str
    seeds: int
    kl: float
    kl_spread: float
    reward: float
    reward_spread: float
    share: float
    share_spread: float
    above: float
    samples: int
    seconds: float


def means(rows: Sequence[Mapping[str, Any]]) -> list[Mean]:
    """Each setting once, in the order of the runs."""
    by_setting: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_setting.setdefault(row["setting"], []).append(row)
    return [_mean(name, some) for name, some in by_setting.items()]


def _mean(setting: str, rows: Sequence[Mapping[str, Any]]) -> Mean:
    def of(name: str) -> tuple[float, float]:
        values = [row[name] for row in rows]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    (kl, kl_spread), (reward, reward_spread), (share, share_spread) = map(
        of, ("kl", "reward", "share")
    )
    return Mean(
        setting=setting,
        line=rows[0]["line"],
        seeds=len(rows),
        kl=kl,
        kl_spread=kl_spread,
        reward=reward,
        reward_spread=reward_spread,
        share=share,
        share_spread=share_spread,
        above=max(row["above"] for row in rows),
        samples=rows[0]["samples"],
        seconds=statistics.median(row["seconds"] for row in rows),
    )


def best_shares(found: Sequence[Mean]) -> dict[str, Mean]:
    """Of each method and judge the setting that comes nearest to the frontier."""
    best: dict[str, Mean] = {}
    for one in found:
        if one.line not in best or one.share > best[one.line].share:
            best[one.line] = one
    return best


def curve(frontier: Frontier, most: float) -> list[tuple[float, float]]:
    """(KL, reward) along the frontier from the reference to a KL of `most`."""
    points = [frontier.at_slope(0.0)]
    last = frontier.slope_at(most)
    points += [frontier.at_slope(last * (n / _POINTS) ** 2) for n in range(1, _POINTS + 1)]
    return [(point.kl, point.reward) for point in points]


def write(folder: Path, ground: Ground, rows: Sequence[Mapping[str, Any]]) -> list[Mean]:
    """figures.json and frontier.svg; returns the means."""
    found = means(rows)
    far = max(one.kl for one in found)
    edge = curve(ground.frontier, min(1.05 * far, 0.98 * _farthest(ground.frontier)))
    body = {
        "scale": asdict(ground.scale),
        "frontier": [{"kl": kl, "reward": reward} for kl, reward in edge],
        "settings": [asdict(one) for one in found],
        "best": {line: one.setting for line, one in best_shares(found).items()},
        "most_above": max(one.above for one in found),
    }
    write_json(folder / FIGURES, body)
    write_text(folder / PLOT, draw(found, edge))
    return found


def _farthest(frontier: Frontier) -> float:
    """KL of the policy that gives the best answers only."""
    best = frontier.rewards.argmax(1, keepdim=True)
    return float(-frontier.reference.gather(1, best).mean())


def draw(found: Sequence[Mean], edge: Sequence[tuple[float, float]]) -> str:
    """SVG of small panels, one for each method and judge, with the frontier in each.

    Bars are a standard deviation from seed to seed, both ways.
    """
    import altair as alt

    from palate.evaluate.charts import QUIET, STRONG, alone, finished

    lines = list(dict.fromkeys(one.line for one in found))
    most = max(one.kl + one.kl_spread for one in found)
    x = alt.X("x:Q", title="KL, nats", scale=alt.Scale(domain=[0, most], nice=True))
    y = alt.Y("y:Q", title="true reward", scale=alt.Scale(zero=False, nice=True))
    panels = []
    for line in lines:
        own = [one for one in found if one.line == line]
        points = [
            {
                "x": one.kl,
                "y": one.reward,
                "left": max(0.0, one.kl - one.kl_spread),
                "right": one.kl + one.kl_spread,
                "low": one.reward - one.reward_spread,
                "high": one.reward + one.reward_spread,
            }
            for one in own
        ]
        border = alt.Chart({"values": [{"x": kl, "y": r} for kl, r in edge]})
        base = alt.Chart({"values": points})
        panel = alt.layer(
            border.mark_line(color=QUIET, strokeWidth=1.5, clip=True).encode(x=x, y=y),
            base.mark_rule(color=STRONG).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
            base.mark_rule(color=STRONG).encode(x=alt.X("left:Q"), x2="right:Q", y=y),
            base.mark_point(color=STRONG, filled=True, size=40).encode(x=x, y=y),
        )
        panels.append(panel.properties(width=200, height=130, title=line))
    grid = alt.concat(*panels, columns=3).resolve_scale(x="shared", y="shared")
    return alone(finished(grid))


def table(found: Sequence[Mean]) -> tuple[list[str], list[list[str]]]:
    """For people: each method and judge where it comes nearest, the nearest first."""
    header = ["method", "nearest at", "KL", "reward", "of the oracle's gain", "samples", "seconds"]
    best = sorted(best_shares(found).values(), key=lambda one: -_number(one.share))
    body = [
        [
            one.line,
            one.setting.removeprefix(one.line.split(",")[0]).strip() or "as it is",
            f"{one.kl:.2f} ± {one.kl_spread:.2f}",
            f"{one.reward:.2f} ± {one.reward_spread:.2f}",
            f"{one.share:.1%} ± {one.share_spread:.1%}",
            f"{one.samples:,}" if one.samples else "none",
            f"{one.seconds:.0f}",
        ]
        for one in best
    ]
    return header, body


def _number(value: float) -> float:
    return -1.0 if math.isnan(value) else value
