from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from palate.evaluate.measure import answering, assess
from palate.evaluate.measure.gate import KINDS
from palate.sections import GateConfig

Palate = Callable[..., Result]
SMALL = (
    "evaluate.answers=6",
    "evaluate.fixed_max_new_tokens=4",
    "evaluate.limit=4",
    "train.device=cpu",
)
RULE = """
def letters(prompt, answer):
    return sum(c.isalpha() for c in answer) / max(1, len(answer))
"""


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, which may be written to, and a cache of its own."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "tiny"))


@pytest.fixture
def rule(tmp_path: Path) -> str:
    path = tmp_path / "letters.py"
    path.write_text(RULE, encoding="utf-8")
    return f"evaluate.rule={path}:letters"


def measured(done: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_everything_is_measured_and_written(palate: Palate, run: Path, rule: str) -> None:
    done = palate("eval", run, *SMALL, rule, "--json")
    assert done.exit_code in {0, 3}, done.output
    (report,) = measured(done)
    assert report == json.loads((run / "evaluation" / "report.json").read_text(encoding="utf-8"))
    for part in ("preferences", "answers", "text", "drift", "wins", "forgetting", "instructions"):
        assert report[part] is not None, part
    assert set(report["not_measured"]) == {"maths", "tasks"}
    assert report["preferences"]["n"] == 2
    assert report["wins"]["comparisons"] == 6
    assert report["safety"]["unsafe"]["n"] == report["safety"]["harmless"]["n"] == 2
    assert report["instructions"]["n"] == 4
    assert done.exit_code == (0 if report["gate"]["passed"] else 3)
    card = report["card"]
    manifest = json.loads((run / "snapshot" / "manifest.json").read_text(encoding="utf-8"))
    assert card["data_hash"] == manifest["content_hash"]
    assert card["versions"]["torch"]
    assert card["passed"] is report["gate"]["passed"]
    lines = (run / "evaluation" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["set"] for row in rows].count("held-out") == 2
    assert len(rows[0]["model"]) == 3


def test_a_model_is_as_good_as_itself(palate: Palate, run: Path, rule: str) -> None:
    """The base measured as if it were a run's model: every difference is exactly 0."""
    base = json.loads(json.dumps(str(run / "model")))
    (report,) = measured(palate("eval", run, *SMALL, rule, "--base", base, "--json"))
    assert report["drift"]["kl"] == 0
    assert report["preferences"]["margin"] == 0
    assert report["preferences"]["accuracy"] == 0.5
    assert (report["wins"]["rate"], report["wins"]["ties"]) == (0.5, 6)
    assert report["wins"]["p"] == 1
    assert report["forgetting"]["rise"] == 0
    assert report["instructions"]["change"] == 0
    failed = [check["name"] for check in report["gate"]["checks"] if not check["passed"]]
    assert failed == ["win_rate"], "it is no better, and nothing else is wrong with it"


def test_answers_are_sampled_once(
    palate: Palate, run: Path, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured(palate("eval", run, *SMALL, "--json"))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was sampled before")

    monkeypatch.setattr(answering, "sample", never)
    again = measured(palate("eval", run, *SMALL, rule, "--json"))
    assert again[0]["wins"] is not None
    assert first[0]["wins"] is None
    assert again[0]["drift"] == first[0]["drift"]
    both = palate("eval", run, run, *SMALL, "--json")
    assert [one["model"]["name"] for one in measured(both)] == ["tiny", "tiny (2)"]


def test_a_measurement_that_was_stopped_goes_on(
    palate: Palate, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = answering.sample

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(answering, "sample", counted)
    done = palate("eval", run, *SMALL, "--json")
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
    stopped = len(calls)
    monkeypatch.setattr(answering, "sample", real)
    whole = measured(palate("eval", run, *SMALL, "--json"))
    assert stopped == 2
    shutil.rmtree(run / "evaluation")
    assert measured(palate("eval", run, *SMALL, "--json")) == whole


def test_what_is_not_measured_does_not_pass(palate: Palate, run: Path) -> None:
    done = palate("eval", run, *SMALL)
    assert done.exit_code == 3
    assert "evaluate.judge or evaluate.rule" in done.stderr
    assert "THE GATE IS NOT PASSED" in done.stderr
    only = [f"gate.{name}=null" for name in KINDS]
    assert palate("eval", run, *SMALL, *only).exit_code == 0


def test_every_setting_of_the_gate_is_a_check() -> None:
    assert set(GateConfig.model_fields) == set(KINDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "name a run's folder"),
        (["{run}", "evaluate.answer=3"], "did you mean 'answers'"),
        (["{run}", "gate.win_rat=0.3"], "did you mean 'win_rate'"),
        (["{run}", "evaluate.instructions=missing.jsonl"], "missing.jsonl"),
        (["{run}", "evaluate.maths=missing.jsonl"], "missing.jsonl"),
    ],
)
def test_bad_input_is_one_line(palate: Palate, run: Path, words: list[str], said: str) -> None:
    done = palate("eval", *[word.format(run=run) for word in words])
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]


def test_the_page_shows_the_card(palate: Palate, run: Path, rule: str) -> None:
    palate("eval", run, *SMALL, rule)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Ship card" in page
    assert "win rate against the base" in page
    assert assess.REPORT in page
