"""What a race leaves: a table on the terminal, a JSON file and a chart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .figures import Figures, Ratio

_HEAD = (
    "side | seconds a step | pairs/s | unique tokens/s | computed tokens/s | tokens a step | "
    "peak GiB | of the limit"
)
_COLORS = {"TRL as it comes": "#9aa5b1", "TRL tuned": "#2f6f9f"}
_INK = "#777777"  # readable on white and on black: a README is shown on both


@dataclass(frozen=True, slots=True)
class Race:
    """One workload, adapter and precision: both sides' figures and their ratios by baseline."""

    workload: str
    about: str
    adapter: str
    precision: str
    figures: dict[str, Figures]
    ratios: dict[str, Ratio]

    def to_json(self) -> dict[str, Any]:
        """Everything, with the rates that follow from it."""
        raw = asdict(self)
        for name, figure in self.figures.items():
            raw["figures"][name] |= {
                "step": figure.step,
                "pairs_per_second": figure.pairs_per_second,
                "unique_per_second": figure.unique_per_second,
                "computed_per_second": figure.computed_per_second,
            }
        return raw


def read_race(raw: Mapping[str, Any]) -> Race:
    """Inverse of `Race.to_json`."""
    known = {field.name for field in fields(Figures)}
    figures = {
        name: Figures(**{k: tuple(v) if k == "seconds" else v for k, v in f.items() if k in known})
        for name, f in raw["figures"].items()
    }
    ratios = {name: Ratio(**ratio) for name, ratio in raw["ratios"].items()}
    named = (raw[key] for key in ("workload", "about", "adapter", "precision"))
    return Race(*named, figures, ratios)


def table(race: Race) -> str:
    """The race as Markdown: one row a side, then one line a baseline."""
    head = f"| {_HEAD} |"
    lines = [
        f"{race.workload}: {race.about} · {race.adapter}, {race.precision}",
        "",
        head,
        "|" + "---|" * head.count(" | ") + "---|",
    ]
    for name, f in race.figures.items():
        lines.append(
            f"| {name} | {f.step:.2f} | {f.pairs_per_second:.3f} | {f.unique_per_second:.0f} | "
            f"{f.computed_per_second:.0f} | {f.computed:.0f} | {f.peak_bytes / 2**30:.1f} | "
            f"{f.limit:.1%} |"
        )
    lines.append("")
    for name, r in race.ratios.items():
        rounds = len(race.figures[name].seconds)
        spread = (
            f" ({r.low:.2f} to {r.high:.2f} in {rounds} rounds)" if rounds > 1 else " (1 round)"
        )
        lines.append(
            f"- against {name}: {r.median:.2f}×{spread} = sharing {r.sharing:.2f} × engine "
            f"{r.engine:.2f}; peak memory {r.memory:.2f}×"
        )
    return "\n".join(lines)


def chart(races: Sequence[Race]) -> str:
    """SVG of bars: how many times faster, by workload and baseline, with all rounds' range."""
    import altair as alt

    rows = [
        {
            "race": f"{race.workload} {race.about} ({race.adapter})",
            "baseline": name,
            "ratio": r.median,
            "low": r.low,
            "high": r.high,
            "label": f"{r.median:.1f}×",
        }
        for race in races
        for name, r in race.ratios.items()
    ]
    names = [name for name in _COLORS if any(row["baseline"] == name for row in rows)]
    y = alt.Y("baseline:N", sort=names, title=None, axis=None)
    color = alt.Color(
        "baseline:N",
        sort=names,
        scale=alt.Scale(domain=names, range=[_COLORS[name] for name in names]),
        legend=alt.Legend(title=None, orient="top", labelColor=_INK),
    )
    base = alt.Chart(alt.Data(values=rows)).properties(width=460)
    bars = base.mark_bar(height=14).encode(
        x=alt.X("ratio:Q", title="pairs a second, times TRL's"), y=y, color=color
    )
    span = base.mark_rule(color=_INK).encode(x="low:Q", x2="high:Q", y=y)
    text = base.mark_text(align="left", dx=6, color=_INK).encode(x="high:Q", y=y, text="label:N")
    order = list(dict.fromkeys(row["race"] for row in rows))
    label = alt.Header(labelAngle=0, labelAlign="left", labelColor=_INK, labelLimit=300)
    drawn = (
        alt.layer(bars, span, text)
        .facet(row=alt.Row("race:N", sort=order, title=None, header=label), spacing=8)
        .configure(background="transparent")
        .configure_view(stroke=None)
        .configure_axis(labelColor=_INK, titleColor=_INK, tickColor=_INK, gridOpacity=0.2)
    )
    out = io.StringIO()
    drawn.save(out, format="svg")
    return out.getvalue()
