"""The pages of experiments: every one has its own, and its table is that of its figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from palate.experiments.listed import LISTED

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import experiments  # noqa: E402 - a script


@pytest.mark.parametrize("name", LISTED)
def test_each_has_a_page_that_the_index_names(name: str) -> None:
    page = (experiments.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert f"palate experiments {name}" in page
    assert "## Expected, before it was run" in page
    index = (experiments.PAGES / "README.md").read_text(encoding="utf-8")
    assert f"| [{name}]({name}.md) | {LISTED[name]} |" in index


@pytest.mark.parametrize(
    "figures", sorted(experiments.PAGES.glob("*.json")), ids=lambda path: path.stem
)
def test_the_table_is_that_of_the_figures(figures: Path) -> None:
    page = figures.with_suffix(".md").read_text(encoding="utf-8")
    assert experiments.filled(page, experiments.table(figures), figures.stem) == page
    assert f"]({figures.stem}.svg)" in page


def test_a_table_and_its_marks(tmp_path: Path) -> None:
    figures = tmp_path / "a.json"
    body = {"table": [["", "KL"], ["dpo", "1.0"]], "points": [{"seeds": 3}, {"seeds": 5}]}
    figures.write_text(json.dumps(body))
    text = experiments.table(figures)
    assert text.splitlines()[:3] == ["|  | KL |", "| --- | --- |", "| dpo | 1.0 |"]
    assert text.endswith("(3 seeds, ± one standard deviation)")
    page = f"a\n{experiments.BEGIN}\nold\n{experiments.END}\nb"
    new = experiments.filled(page, "new", "a")
    assert new == f"a\n{experiments.BEGIN}\nnew\n{experiments.END}\nb"
    with pytest.raises(ValueError, match="once each"):
        experiments.filled("no marks", "new", "a")
