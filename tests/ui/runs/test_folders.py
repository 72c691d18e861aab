"""Names of runs: folders that are there, and never a way anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.ui.runs.folders import begin

from palate.ui.pages import NotThere
from palate.ui.runs.bases import bases
from palate.ui.runs.folders import parts_of, place_of, runs_in


def test_runs_and_the_runs_inside_them(tmp_path: Path) -> None:
    begin(tmp_path, "desk")
    begin(tmp_path / "sweep", "beta-0.1")
    begin(tmp_path / "desk", "1-sft")
    begin(tmp_path, ".hidden")
    (tmp_path / "no-run").mkdir()
    found = runs_in(tmp_path)
    assert found == {
        "desk": tmp_path / "desk",
        "desk:1-sft": tmp_path / "desk" / "1-sft",
        "sweep:beta-0.1": tmp_path / "sweep" / "beta-0.1",
    }
    for name, folder in found.items():
        assert place_of(tmp_path, name) == folder
    assert parts_of(tmp_path / "desk") == ["1-sft"]


def test_a_folder_that_is_named_like_a_part_comes_first(tmp_path: Path) -> None:
    begin(tmp_path, "a:b")
    begin(tmp_path / "a", "b")
    assert place_of(tmp_path, "a:b") == tmp_path / "a:b" == runs_in(tmp_path)["a:b"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "..\\outside",
        "outside",
        ":outside",
        "..:outside",
        "desk:..:outside",
        "desk/../../outside",
        "desk:1-sft/../../../outside",
        "/etc",
        "desk\0",
        ".hidden",
        "link",
        "desk:link",
        "n" * 5000,
    ],
)
def test_no_name_leads_out(tmp_path: Path, name: str) -> None:
    runs = tmp_path / "runs"
    begin(tmp_path, "outside")
    begin(runs, "desk")
    begin(runs, ".hidden")
    (runs / "link").symlink_to(tmp_path / "outside")
    (runs / "desk" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(NotThere):
        place_of(runs, name)


def test_a_folder_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    """No address can name it, and no page can show it."""
    begin(tmp_path, "desk")
    begin(tmp_path, os.fsdecode(b"odd-\xff"))
    begin(tmp_path / "desk", os.fsdecode(b"odd-\xff"))
    assert list(runs_in(tmp_path)) == ["desk"]
    assert parts_of(tmp_path / "desk") == []
    assert "run/desk" in bases(tmp_path)
    assert [key for key in bases(tmp_path) if "odd" in key] == []
    with pytest.raises(NotThere):
        place_of(tmp_path, os.fsdecode(b"odd-\xff"))


def test_no_folder_of_runs(tmp_path: Path) -> None:
    assert runs_in(tmp_path / "none") == {}
