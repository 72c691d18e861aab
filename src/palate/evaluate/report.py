"""report.html: one file that says what a run did, opens offline, and runs no script.

The page is built from the run's folder alone, so it can be written again at any time.
Everything a model or a user wrote reaches the page as escaped text; a content policy in
the page forbids scripts and every outside resource besides.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from palate.evaluate import samples, tables
from palate.evaluate.charts import draw_shares, rollout_figures, training_figures
from palate.evaluate.findings import findings
from palate.evaluate.measured import check_rows, figure_rows, slice_rows
from palate.evaluate.pages import template
from palate.evaluate.runfolder import RunFiles, interval, number, read_run, section
from palate.evaluate.wording import (
    NOT_MEASURED,
    bounds,
    clean,
    decimal,
    longer,
    percent,
    plural,
    points,
)


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Files or fields that are missing are reported as not measured. Raises `ValueError` if there
    is no such folder, `OSError` if it cannot be written.
    """
    path = run_folder / "report.html"
    page = render(read_run(run_folder))
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8", newline="\n")
    partial.replace(path)
    return path


def render(run: RunFiles) -> str:
    """The page as HTML text."""
    return template("report.html.j2").render(**context(run))


def context(run: RunFiles) -> dict[str, Any]:
    """What the template shows: words and rows.

    Only the drawings are markup, and they hold nothing but numbers and our own words.
    """
    shown, prompts = samples.prompts(run)
    expected = number(run.results, "step0", "expected")
    figures = rollout_figures(run.rollouts, run.heldout)
    figures += training_figures(run.train, run.heldout, expected)
    folder = shlex.quote(str(run.folder))
    recipe, again = str(run.folder / "config.yaml"), f"name={run.folder.name}-again"
    return {
        "name": clean(str(run.config.get("name") or run.folder.resolve().name)),
        "title": headline(run),
        "details": details(run),
        "shares": _shares(run),
        "gate": _gate(run),
        "findings": findings(run),
        "measures": tables.measures(run),
        "method": section(run.results, "comparison").get("method"),
        "figures": figures,
        "funnel": tables.funnel(run),
        "rule": clean(str(section(run.config, "evaluate").get("rule") or "")),
        "scored": number(run.results, "comparison", "after", "share") is not None,
        "prompts": shown,
        "system": samples.one_system(shown),
        "total_prompts": prompts,
        "settings": tables.settings(run),
        "versions": tables.versions(run),
        "config": clean(run.config_text),
        "unread": [clean(line) for line in run.unread],
        "reproduce": f"palate train {shlex.quote(recipe)} {shlex.quote(again)}",
        "next_steps": [
            *([(f"palate chat {folder}", "talk to the model you trained")] if run.answers else []),
            *(
                []
                if run.evaluation
                else [(f"palate eval {folder}", "measure it, and let the gate decide")]
            ),
            ("palate init", "write a recipe for your own data and model"),
            ("palate train my.yaml", "train on it"),
        ],
    }


def headline(run: RunFiles) -> str:
    """The result in one line: by the rule if there is one, else by held-out pairs, else loss."""
    comparison = section(run.results, "comparison")
    old, new = number(comparison, "before", "share"), number(comparison, "after", "share")
    if old is not None and new is not None:
        return f"Follows the rule: {percent(old)} \u2192 {percent(new)}"
    accuracy = number(run.results, "heldout", "accuracy")
    if accuracy is not None:
        of = plural(number(run.results, "heldout", "n") or 0, f"held-out {run.unit}")
        if run.unit == "answer":
            return f"Tells good from bad in {percent(accuracy)} of {of}"
        return f"Prefers the chosen answer in {percent(accuracy)} of {of}"
    for lines, name in ((run.heldout, "Held-out loss"), (run.train, "Training loss")):
        losses = [loss for line in lines if (loss := number(line, "loss")) is not None]
        if losses:
            return f"{name}: {decimal(losses[0])} \u2192 {decimal(losses[-1])}"
    return "Nothing was measured in this run"


def details(run: RunFiles) -> str:
    """The second line: the difference with its interval, length, and drift."""
    comparison = section(run.results, "comparison")
    said: list[str] = []
    found = interval(comparison, "difference_interval")
    if found is not None:
        of = plural(number(comparison, "prompts") or 0, "held-out prompt")
        said.append(f"{points(number(comparison, 'difference'))} {bounds(found)} on {of}")
    elif (accuracy := interval(run.results, "heldout", "accuracy_interval")) is not None:
        said.append(f"95 % interval {bounds(accuracy)}")
    change = number(comparison, "tokens_change")
    if change is not None:
        said.append(f"answers {longer(change)}")
    kl = number(comparison, "kl")
    if kl is not None:
        said.append(f"KL {decimal(kl, 1)} nats per answer")
    return "; ".join(said)


def _gate(run: RunFiles) -> dict[str, Any] | None:
    """What `palate eval` found, if it has measured this run."""
    report = run.evaluation
    checks = section(report, "gate").get("checks")
    if not isinstance(checks, list):
        return None
    card = section(report, "card")
    method = section(card, "method").get("name")
    facts = [
        ("data", str(card.get("data_hash") or NOT_MEASURED)[:12]),
        ("recipe", card.get("config_hash")),
        ("method", method),
        *section(card, "versions").items(),
    ]
    slices = section(report, "preferences").get("slices")
    return {
        "passed": section(report, "gate").get("passed") is True,
        "base": clean(str(section(report, "base").get("name") or "the base")),
        "checks": check_rows(checks),
        "card": [(clean(str(name)), clean(str(value))) for name, value in facts if value],
        "figures": figure_rows(report),
        "missing": [
            (str(n), clean(str(why))) for n, why in section(report, "not_measured").items()
        ],
        "slices": slice_rows(slices if isinstance(slices, list) else []),
    }


def _shares(run: RunFiles) -> str | None:
    """The two shares as a drawing, if both and their intervals were measured."""
    comparison = section(run.results, "comparison")
    before, after = section(comparison, "before"), section(comparison, "after")
    old, new = number(before, "share"), number(after, "share")
    old_in, new_in = interval(before, "interval"), interval(after, "interval")
    if old is None or new is None or old_in is None or new_in is None:
        return None
    return draw_shares(old, old_in, new, new_in)
