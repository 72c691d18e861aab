"""The ship card: the gate's word, what was measured for it, and what it was measured of."""

from __future__ import annotations

from typing import Any

from palate.evaluate.measured import check_rows, figure_rows, slice_rows
from palate.evaluate.runfolder import RunFiles, section
from palate.evaluate.wording import NOT_MEASURED, clean


def ship_card(run: RunFiles) -> dict[str, Any] | None:
    """What `palate eval` found and whether the gate let it through; None if it has not measured."""
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
