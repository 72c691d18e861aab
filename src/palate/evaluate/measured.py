"""What `palate eval` measured as rows of plain text, for the terminal and for the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.evaluate.runfolder import interval, number, section
from palate.evaluate.wording import (
    NOT_MEASURED,
    bounds,
    clean,
    decimal,
    percent,
    points,
    signed_percent,
)

Table = Mapping[str, Any]
Row = list[str]


def figure_rows(report: Table) -> list[Row]:
    """(figure, base, model, change with its interval) of everything that was measured."""
    return [*_judged(report), *_text(report), *_fixed(report)]


def _judged(report: Table) -> list[Row]:
    rows: list[Row] = []
    wins, pairs = section(report, "wins"), section(report, "preferences")
    if wins:
        said = f"{percent(number(wins, 'rate'))} {bounds(interval(wins, 'interval'))}"
        of = f"{decimal(number(wins, 'comparisons'), 0)} comparisons, p {_p(number(wins, 'p'))}"
        rows.append([f"win rate ({of})", "50 %", said, ""])
        controlled = section(wins, "controlled")
        said = f"{percent(number(controlled, 'rate'))} {bounds(interval(controlled, 'interval'))}"
        rows.append(["win rate at equal length", "50 %", said, ""])
    answers = section(report, "answers")
    before, after = section(answers, "before"), section(answers, "after")
    if number(after, "share") is not None:
        change = points(number(answers, "difference"))
        change += f" {bounds(interval(answers, 'difference_interval'))}"
        rows.append(["passes the rule", _share(before), _share(after), change])
    if pairs:
        said = (
            f"{percent(number(pairs, 'accuracy'))} {bounds(interval(pairs, 'accuracy_interval'))}"
        )
        rows.append([f"held-out pairs ranked right (of {pairs['n']})", "", said, ""])
        margin = f"{decimal(number(pairs, 'margin'), 1)}{_nats(interval(pairs, 'margin_interval'))}"
        rows.append(["margin, nats", "0", margin, ""])
    return rows


def _text(report: Table) -> list[Row]:
    answers, text, drift = (section(report, name) for name in ("answers", "text", "drift"))
    before, after = section(answers, "before"), section(answers, "after")
    rows: list[Row] = []
    if answers:
        change = signed_percent(number(answers, "words_change"))
        rows.append(["words an answer", _number(before, "words"), _number(after, "words"), change])
        old, new = number(before, "finished"), number(after, "finished")
        rows.append(["answers that end", percent(old), percent(new), _points(old, new)])
        old, new = number(before, "distinct_2"), number(after, "distinct_2")
        change = signed_percent(new / old - 1) if old and new is not None else ""
        rows.append(["distinct word pairs", decimal(old), decimal(new), change])
        old, new = number(text, "base_repetition"), number(text, "repetition")
        rows.append(
            ["repeated runs of 4 words", percent(old, 1), percent(new, 1), _points(old, new)]
        )
    if drift:
        error = number(drift, "kl_error")
        said = decimal(number(drift, "kl"), 1)
        said += "" if error is None else f" \u00b1 {decimal(error, 1)}"
        rows.append(["KL on its own text, nats an answer", "0", said, ""])
        rows.append(
            [
                "entropy, nats a token",
                decimal(number(drift, "base_entropy")),
                decimal(number(drift, "entropy")),
                "",
            ]
        )
    lost = section(report, "forgetting")
    if lost:
        change = f"{signed_percent(number(lost, 'rise'))} {bounds(interval(lost, 'rise_interval'))}"
        old, new = number(lost, "base_perplexity"), number(lost, "perplexity")
        rows.append(["perplexity of demonstrations", decimal(old), decimal(new), change])
    return rows


def _fixed(report: Table) -> list[Row]:
    rows: list[Row] = []
    safety = section(report, "safety")
    for title, found in (
        ("instructions followed, strict", section(report, "instructions")),
        ("right final numbers", section(report, "maths")),
        ("unsafe prompts declined", section(safety, "unsafe")),
        ("harmless prompts refused", section(safety, "harmless")),
    ):
        if found:
            change = points(number(found, "change"))
            change += f" {bounds(interval(found, 'change_interval'))}"
            both = (
                f"{percent(number(found, share))} {bounds(interval(found, within))}"
                for share, within in (("base_share", "base_interval"), ("share", "interval"))
            )
            rows.append([f"{title} (of {found['n']})", *both, change])
    tasks = section(report, "tasks")
    for task in tasks:
        values = section(tasks, task)
        for metric in values:
            old, new = number(values, metric, "base"), number(values, metric, "model")
            change = "" if old is None or new is None else decimal(new - old, 3)
            rows.append([f"{task}, {metric}", decimal(old, 3), decimal(new, 3), change])
    return rows


def check_rows(checks: Sequence[Table]) -> list[Row]:
    """(what, measured, wanted, word) of each check."""
    rows = []
    for check in checks:
        unit = str(check["unit"])
        wanted = f"{'above' if check['above'] else 'below'} {shown(check['limit'], unit)}"
        word = "passes" if check["passed"] else "FAILS"
        if check["value"] is None:
            word += f": {check['cure']}"
        rows.append([str(check["about"]), shown(check["value"], unit), wanted, word])
    return rows


def slice_rows(slices: Sequence[Table]) -> list[Row]:
    """(slice, pairs, ranked right, margin) of held-out pairs."""
    return [
        [
            clean(f"{one.get('slice')}: {one.get('value')}"),
            decimal(number(one, "pairs"), 0),
            f"{percent(number(one, 'accuracy'))} {bounds(interval(one, 'accuracy_interval'))}",
            decimal(number(one, "margin"), 1),
        ]
        for one in slices
    ]


def shown(value: float | None, unit: str) -> str:
    """A check's number as its unit wants it."""
    if value is None:
        return NOT_MEASURED
    if unit == "nats":
        return f"{decimal(value, 1)} nats"
    if unit == "points":
        return f"{decimal(100 * value, 1)} points"
    return percent(value, 1)


def _share(stage: Table) -> str:
    return f"{percent(number(stage, 'share'))} {bounds(interval(stage, 'interval'))}".strip()


def _number(stage: Table, key: str) -> str:
    return decimal(number(stage, key), 1)


def _points(old: float | None, new: float | None) -> str:
    return "" if old is None or new is None else points(new - old)


def _nats(found: tuple[float, float] | None) -> str:
    return "" if found is None else f" [{decimal(found[0], 1)}, {decimal(found[1], 1)}]"


def _p(value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return "< 0.001" if value < 0.001 else decimal(value, 3)
