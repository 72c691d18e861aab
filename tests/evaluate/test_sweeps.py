"""The table, the file and the plot of a sweep, from numbers that can be checked by hand."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from palate.evaluate.sweep_page import PAGE, PLOT, write_page
from palate.evaluate.sweeps import Outcome, origin, plain, results_csv, reward, rows, table


def results(accuracy: float, kl: float | None = 2.0, rule: float | None = 0.5) -> dict[str, Any]:
    after = {"share": rule, "interval": None if rule is None else [0.4, 0.6], "tokens": 20.0}
    return {
        "heldout": {"accuracy": accuracy, "accuracy_interval": [0.1, 0.9], "margin": 1.0},
        "comparison": {"kl": kl, "kl_error": 0.5, "before": {"share": 0.25}, "after": after},
        "training": {"seconds": 10.0},
    }


def outcome(beta: str, seed: str, found: dict[str, Any] | None) -> Outcome:
    return Outcome(f"beta={beta},seed={seed}", {"method.beta": beta, "seed": seed}, found)


THREE = [
    outcome("0.1", "1", results(0.7, 1.0)),
    outcome("0.1", "2", results(0.8, 2.0)),
    outcome("0.1", "3", results(0.9, 3.0)),
]


def test_the_mean_over_seeds_and_students_interval() -> None:
    """Mean 0.8, s = 0.1, t(2) = 4.303: ± 4.303 · 0.1/√3 = 0.2484, cut at 1."""
    (row,) = rows(THREE)
    assert (row.settings, row.runs, row.wanted) == ({"method.beta": "0.1"}, 3, 3)
    accuracy, kl = row.values["accuracy"], row.values["kl"]
    assert accuracy.value == pytest.approx(0.8)
    assert accuracy.bounds == pytest.approx((0.8 - 0.2484, 1.0), abs=1e-4)
    assert kl.bounds == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)


def test_the_table_in_words() -> None:
    header, body = table(rows(THREE))
    assert header[:3] == ["method.beta", "seeds", "held-out accuracy"]
    assert body[0][:4] == ["0.1", "3", "80% [55%, 100%]", "+1.00 [+1.00, +1.00]"]


def test_without_a_seed_axis_a_run_keeps_its_own_intervals() -> None:
    one = Outcome("beta=0.1", {"method.beta": "0.1"}, results(0.7))
    (row,) = rows([one])
    assert row.values["accuracy"].bounds == (0.1, 0.9)
    assert row.values["kl"].bounds == pytest.approx((1.02, 2.98))
    header, body = table([row])
    assert "seeds" not in header
    assert body[0][1] == "70% [10%, 90%]"


def test_what_is_not_complete_is_said_and_not_averaged() -> None:
    found = rows([*THREE[:2], outcome("0.1", "3", None), outcome("0.3", "1", None)])
    assert [(row.runs, row.wanted) for row in found] == [(2, 3), (0, 1)]
    assert found[0].values["accuracy"].value == pytest.approx(0.75)
    _, body = table(found)
    assert body[0][1] == "2 of 3"
    assert body[1][:3] == ["0.3", "0 of 1", "not complete"]


def test_a_measure_that_some_seeds_lack_is_no_mean() -> None:
    (row,) = rows([*THREE[:2], outcome("0.1", "3", results(0.9, kl=None))])
    assert "kl" not in row.values
    assert "accuracy" in row.values


def test_stages_give_the_last_ones_numbers_and_all_of_their_seconds() -> None:
    staged = {"stages": [results(0.1), results(0.6)]}
    (row,) = rows([Outcome("a", {"method.beta": "1"}, staged)])
    assert row.values["accuracy"].value == 0.6
    assert row.values["seconds"].value == 20.0


def test_the_file_has_a_line_for_each_cell() -> None:
    lines = list(csv.DictReader(io.StringIO(results_csv([*THREE, outcome("0,5", "1", None)]))))
    assert [line["complete"] for line in lines] == ["yes", "yes", "yes", "no"]
    assert lines[3]["method.beta"] == "0,5"
    assert lines[3]["accuracy"] == ""
    assert float(lines[0]["accuracy"]) == 0.7
    assert (lines[0]["rule_low"], lines[0]["rule_high"]) == ("0.4", "0.6")


def test_plain_values() -> None:
    found = plain(THREE)
    assert [cell["accuracy"] for cell in found["cells"]] == [0.7, 0.8, 0.9]
    assert found["settings"][0]["kl"]["value"] == pytest.approx(2.0)


def test_the_reward_is_the_rule_else_accuracy_and_nothing_without_kl() -> None:
    def name(*cells: Outcome) -> str | None:
        measure = reward(cells)
        return measure.name if measure else None

    assert name(*THREE) == "rule"
    assert name(*THREE, outcome("1", "1", None)) == "rule"
    assert name(*THREE, outcome("1", "1", results(0.5, rule=None))) == "accuracy"
    assert name(*THREE, outcome("1", "1", results(0.5, kl=None))) is None
    assert name(outcome("1", "1", None)) is None
    measure = reward(THREE)
    assert measure is not None
    assert origin(THREE, measure) == 0.25


def test_the_page_and_the_plot(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    cells = [*THREE, *(outcome(hostile, seed, results(0.5, 4.0)) for seed in "123")]
    write_page(tmp_path, cells)
    page, plot = (tmp_path / PAGE).read_text(), (tmp_path / PLOT).read_text()
    assert "<script" not in page
    assert "<script" not in plot
    root = ET.fromstring(plot)  # noqa: S314 - our own file
    words = [text for node in root.iter() if (text := (node.text or "").strip())]
    for word in ("beta=0.1", f"beta={hostile}", "before", "KL, nats an answer", "follows the rule"):
        assert word in words
    assert "var(" not in plot
    assert "var(--chart-first" in page
    assert "6 of 6 runs are complete" in page
    assert re.search(r'<a href="beta%3D0.1%2Cseed%3D1/report.html">', page)


def test_without_kl_the_page_says_why_and_an_old_plot_goes(tmp_path: Path) -> None:
    write_page(tmp_path, THREE)
    write_page(tmp_path, [outcome("0.1", "1", results(0.7, kl=None))])
    assert not (tmp_path / PLOT).exists()
    assert "evaluate.samples" in (tmp_path / PAGE).read_text()


def test_a_number_that_is_none_is_not_shown() -> None:
    (row,) = rows([outcome("0.1", "1", results(math.nan))])
    assert "accuracy" not in row.values
