"""The gate lets a better model out, and keeps in what got worse on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.measure import worlds
from typer.testing import CliRunner, Result

from palate.cli.main import app

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a cache of its own."""
    home = tmp_path_factory.mktemp("worlds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="module")
def base(home: Path) -> Path:
    return worlds.make_base(home)


def evaluate(*words: object) -> tuple[int, dict[str, Any]]:
    done: Result = CliRunner().invoke(app, ["eval", *map(str, words), "--json"])
    (report,) = json.loads(done.stdout.strip().splitlines()[-1])
    return done.exit_code, report


def failed(report: dict[str, Any]) -> set[str]:
    return {check["name"] for check in report["gate"]["checks"] if not check["passed"]}


def test_a_better_model_goes_out(home: Path, base: Path) -> None:
    run = worlds.make_run(home, "better", base, worlds.better, lr=1e-3, steps=20, beta=0.3)
    code, report = evaluate(run)
    assert (code, failed(report)) == (0, set())
    assert report["wins"]["interval"][0] > 0.5
    assert report["wins"]["p"] < 0.05
    assert report["card"]["passed"] is True


def test_one_of_swapped_pairs_stays_in(home: Path, base: Path) -> None:
    """It ranks its own held-out pairs right, for they are swapped too: only the judge can tell."""
    run = worlds.make_run(home, "swapped", base, worlds.swapped, lr=1e-3, steps=20, beta=0.1)
    code, report = evaluate(run)
    assert code == 3
    assert "win_rate" in failed(report)
    assert report["wins"]["interval"][1] < 0.5
    assert report["preferences"]["accuracy"] > 0.8


def test_one_that_learned_to_be_long_stays_in(home: Path, base: Path) -> None:
    run = worlds.make_run(home, "longer", base, worlds.longer, lr=1e-3, steps=20, beta=0.1)
    code, report = evaluate(run)
    assert code == 3
    assert {"length_change", "finished_drop"} <= failed(report)
    assert report["answers"]["words_change"] > 0.5


def test_one_that_was_over_optimised_stays_in(home: Path, base: Path) -> None:
    """It wins nearly always, with the same few words: the rule alone would let it out."""
    run = worlds.make_run(home, "over", base, worlds.better, lr=5e-3, steps=80, beta=0.01)
    code, report = evaluate(run)
    assert code == 3
    assert "variety_drop" in failed(report)
    assert "win_rate" not in failed(report)
    assert report["wins"]["rate"] > 0.8
