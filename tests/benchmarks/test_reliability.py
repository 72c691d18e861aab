"""The runner of trials: it goes on after the last line of its log, and says what failed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks import faults, reliability


def fault_of(seen: list[int], bad: frozenset[int] = frozenset(), **more: Any) -> Any:
    def trial(number: int, folder: Path) -> dict[str, object]:
        assert folder.is_dir()
        assert not list(folder.iterdir())
        seen.append(number)
        assert number not in bad, f"{number} is bad"
        return {"square": number**2}

    return SimpleNamespace(
        __name__="pretended", FAULT="a fault", HOLDS="it holds", trial=trial, **more
    )


def run(monkeypatch: pytest.MonkeyPatch, fault: Any, *words: str) -> int:
    monkeypatch.setattr(reliability, "find", lambda name: fault)
    monkeypatch.setattr(reliability, "names", lambda: ["pretended"])
    monkeypatch.setattr("sys.argv", ["reliability", "pretended", *words])
    return reliability.main()


def test_it_goes_on_after_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, seen = tmp_path / "log.jsonl", list[int]()
    fault = fault_of(seen, TRIALS=4)
    assert run(monkeypatch, fault, "--log", str(log), "--trials", "2") == 0
    with log.open("a") as file:
        file.write('{"fault": "pretended", "tri')  # it was killed while it wrote
    assert run(monkeypatch, fault, "--log", str(log)) == 0
    assert seen == [1, 2, 3, 4]
    found = reliability.read(log)
    assert [found[number]["saw"] for number in (1, 2, 3, 4)] == [
        {"square": 1}, {"square": 4}, {"square": 9}, {"square": 16}
    ]  # fmt: skip
    assert "| a fault | it holds | 4 of 4 |" in capsys.readouterr().out


def test_what_failed_is_a_line_too_and_is_repeated_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, seen = tmp_path / "log.jsonl", list[int]()
    words = ("--log", str(log))
    assert run(monkeypatch, fault_of(seen, frozenset({2}), TRIALS=3), *words) == 1
    assert "2 of 3" in capsys.readouterr().out
    failed = reliability.read(log)[2]
    assert (failed["passed"], failed["error"]) == (False, "AssertionError: 2 is bad")
    assert run(monkeypatch, fault_of(seen, TRIALS=3), *words) == 1
    assert run(monkeypatch, fault_of(seen, TRIALS=3), *words, "--again") == 0
    assert seen == [1, 2, 3, 2]
    assert len([json.loads(text) for text in log.read_text().splitlines()]) == 4


def test_a_few_of_many_are_spread_over_them(tmp_path: Path) -> None:
    seen: list[int] = []
    assert faults.chosen(fault_of(seen, every=lambda: 21), 5) == [1, 6, 11, 16, 21]
    assert faults.chosen(fault_of(seen, every=lambda: 3), 5) == [1, 2, 3]
    assert faults.chosen(fault_of(seen, TRIALS=200), 5) == [1, 2, 3, 4, 5]
    assert len(list(faults.run_few(fault_of(seen, TRIALS=200), tmp_path, 3))) == 3
    assert seen == [1, 2, 3]


def test_trials_that_have_a_place_each_are_run_from_all_over() -> None:
    """By the bits of n − 1 backwards: 000, 100, 010, 110, 001, …"""
    ordered = reliability.in_order(fault_of([], every=lambda: 8), 8)
    assert ordered == [1, 5, 3, 7, 2, 6, 4, 8]
    assert reliability.in_order(fault_of([], TRIALS=8), 3) == [1, 2, 3]


def test_a_failing_trial_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 is bad") as said:
        list(faults.run_few(fault_of([], frozenset({2}), TRIALS=5), tmp_path, 3))
    assert said.value.__notes__ == ["pretended, trial 2"]


@pytest.mark.parametrize("name", faults.names())
def test_every_fault_says_what_the_table_needs(name: str) -> None:
    fault = faults.find(name)
    assert fault.FAULT
    assert fault.HOLDS
    assert hasattr(fault, "TRIALS") != hasattr(fault, "every")


@pytest.mark.parametrize("log", sorted(reliability.LOGS.glob("*.jsonl")), ids=lambda p: p.stem)
def test_the_page_says_what_the_logs_say(log: Path) -> None:
    found = reliability.read(log)
    page = (reliability.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert reliability.row(faults.find(log.stem), log.stem, found) in page.splitlines()
    assert (reliability.ROOT / "tests" / "reliability" / f"test_{log.stem}.py").is_file()
