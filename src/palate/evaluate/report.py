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
from palate.evaluate.headline import details, headline
from palate.evaluate.pages import template
from palate.evaluate.runfolder import RunFiles, interval, number, read_run, section
from palate.evaluate.shipcard import ship_card
from palate.evaluate.wording import clean


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
        "gate": ship_card(run),
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


def _shares(run: RunFiles) -> str | None:
    """The two shares as a drawing, if both and their intervals were measured."""
    comparison = section(run.results, "comparison")
    before, after = section(comparison, "before"), section(comparison, "after")
    old, new = number(before, "share"), number(after, "share")
    old_in, new_in = interval(before, "interval"), interval(after, "interval")
    if old is None or new is None or old_in is None or new_in is None:
        return None
    return draw_shares(old, old_in, new, new_in)
