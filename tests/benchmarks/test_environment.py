from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.racing.environment import REQUIREMENTS, trl_python

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return dict(PINNED.findall(path.read_text(encoding="utf-8")))


def test_the_other_side_has_our_versions_of_what_both_use() -> None:
    """A race between two versions of torch would be a race of torch."""
    ours, theirs = pins(CONSTRAINTS), pins(REQUIREMENTS)
    assert theirs["trl"] == "1.16.0"
    shared = set(ours) & set(theirs)
    assert {"torch", "transformers", "peft"} <= shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    assert len(theirs) == len([line for line in lines if line and not line.startswith("#")])


def test_an_environment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave --trl-env out"):
        trl_python(str(tmp_path), None, print)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert trl_python(str(tmp_path), None, print) == str(tmp_path / "bin" / "python")
