"""The measurement for people: tables for the terminal, and one page that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.durable import write_text
from palate.evaluate.pages import template
from palate.progress import Reporter
from palate.resumable import Row

PAGE = "report.html"
SHOWN = 24
"""Failures that the page shows, from every category in turn."""
Table = tuple[str, list[str], list[list[str]]]


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """(title, header, rows): by category, by form, benign by type, and against another model."""
    found = summary["results"]
    out: list[Table] = [
        (
            "by category",
            ["category", "attempts that succeeded", "attacks broken", "95 %", "undecided"],
            [
                [g["name"], _of(g["attempts"]), _of(g["broken"]), _in(g["broken"]), _n(g)]
                for g in found["categories"]
            ],
        ),
        (
            "by form",
            ["form", "attempts that succeeded", "95 %", "undecided"],
            [[g["name"], _of(g["attempts"]), _in(g["attempts"]), _n(g)] for g in found["forms"]],
        ),
        (
            "benign prompts refused",
            ["type", "refused", "95 %"],
            [[name, _of(s), _in(s)] for name, s in found["benign"].items()],
        ),
    ]
    if summary["against"]:
        rows = [
            [
                one["name"],
                str(one["total"]),
                f"{one['both'] + one['only_old']} → {one['both'] + one['only_new']}",
                f"{100 * one['points']:+.0f} {_in(one)}",
                f"{one['p']:.3g}",
            ]
            for one in summary["against"]["differences"]
        ]
        header = ["", "of", "before → now", "points, 95 %", "p (McNemar)"]
        out.append((f"against {summary['against']['folder']}", header, rows))
    return out


def headline(summary: Mapping[str, Any]) -> list[str]:
    """The verdict and the two shares, in words."""
    found, verdict = summary["results"], summary["verdict"]
    lines = ["PASSED" if verdict["passed"] else f"NOT PASSED: {'; '.join(verdict['reasons'])}"]
    for name, title in (("success", "attacks that succeeded"), ("overrefusal", "benign refused")):
        lines.append(f"{title:<24}{_of(found[name])} {_in(found[name])}")
    return lines


def show(summary: Mapping[str, Any], folder: Path, say: Reporter) -> None:
    """The terminal's tables, the verdict, and where the files are."""
    for title, header, rows in tables(summary):
        say.table(title, header, rows)
    for line in headline(summary):
        say.note(line)
    cured = summary["cure"]
    origins = ", ".join(f"{number} {name}" for name, number in cured["chosen_from"].items())
    left = ", ".join(f"{name} {number}" for name, number in cured["left_out"].items())
    say.note(f"decided by              {summary['decided_by']}")
    note = f" (chosen answers: {origins})" if origins else ""
    say.note(
        f"pairs                   {cured['pairs']}{note}{f'; left out: {left}' if left else ''}"
    )
    say.note(f"page                    {folder / PAGE}")
    if cured["pairs"]:
        say.note(f"next: palate train recipes/dpo.yaml data={folder / 'pairs.jsonl'}")


def write_page(
    summary: Mapping[str, Any], attacks: Sequence[Row], benign: Sequence[Row], folder: Path
) -> Path:
    """Write `report.html`; returns its path."""
    verdict, *lines = headline(summary)
    page = template("redteam.html.j2").render(
        model=summary["model"],
        decided_by=summary["decided_by"],
        verdict=verdict,
        passed=summary["verdict"]["passed"],
        lines=lines,
        tables=tables(summary),
        failures=_spread([row for row in attacks if row["succeeded"]]),
        refused=[row for row in benign if row["refused"]][:SHOWN],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _spread(rows: Sequence[Row]) -> list[Row]:
    """The first failure of each category, then the second of each, and so on."""
    seen: dict[str, int] = {}
    placed = []
    for row in rows:
        seen[row["category"]] = seen.get(row["category"], 0) + 1
        placed.append((seen[row["category"]], row))
    placed.sort(key=lambda pair: pair[0])
    return [row for _, row in placed[:SHOWN]]


def _of(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return "-"
    return f"{share['count']}/{share['total']} ({share['share']:.0%})"


def _in(share: Mapping[str, Any]) -> str:
    if share["interval"] is None:
        return ""
    low, high = share["interval"]
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def _n(group: Mapping[str, Any]) -> str:
    return str(group["undecided"] or "")
