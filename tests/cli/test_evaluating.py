from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from palate.evaluate.measure import answering
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
    again = measured(palate("eval", run, *SMALL, rule, "evaluate.demonstrations=none", "--json"))
    assert again[0]["not_measured"]["forgetting"] == "evaluate.demonstrations is none"
    for other in ("evaluate.temperature=0.5", "seed=9", "evaluate.answers=12"):
        done = palate("eval", run, *SMALL, other)
        assert isinstance(done.exception, AssertionError), "other answers are asked for"


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
    monkeypatch.setattr(answering, "sample", real)
    whole = measured(palate("eval", run, *SMALL, "--json"))
    monkeypatch.setenv("PALATE_CACHE", str(run.parent / "another-cache"))
    assert measured(palate("eval", run, *SMALL, "--json")) == whole, "as if it had not been stopped"


def test_each_run_is_held_to_its_own_gate(palate: Palate, run: Path, rule: str) -> None:
    """Two runs, one of which checks nothing; comparing them changes neither's card."""
    other = Path(shutil.copytree(run, run.parent / "lenient"))
    text = (other / "config.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    config["gate"] = dict.fromkeys(KINDS)
    (other / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = palate("eval", run, other, *SMALL, rule, "gate.length_change=0.001", "--json")
    strict, lenient = measured(done)
    assert [one["model"]["name"] for one in (strict, lenient)] == ["tiny", "lenient"]
    assert len(strict["gate"]["checks"]) > 1
    assert [check["name"] for check in lenient["gate"]["checks"]] == ["length_change"]
    assert strict["card"]["gate"]["length_change"] == 0.001
    before = (run / "evaluation" / "report.json").read_bytes()
    page = run.parent / "page.html"
    compared = palate("compare", run, other, *SMALL, rule, "gate.kl=1e-9", "-o", page)
    assert compared.exit_code == 0, compared.output
    assert (run / "evaluation" / "report.json").read_bytes() == before
    assert "lenient" in page.read_text(encoding="utf-8")


def test_prompts_that_cannot_be_asked_are_not_measured(palate: Palate, run: Path) -> None:
    done = palate("eval", run, *SMALL, "evaluate.max_new_tokens=100000", "--json")
    assert done.exit_code == 3
    (report,) = measured(done)
    assert "prompt-too-long" in report["not_measured"]["answers"]
    (check,) = [c for c in report["gate"]["checks"] if c["name"] == "length_change"]
    assert (check["value"], check["passed"]) == (None, False)
    assert "prompt-too-long" in check["cure"], "the reason, and not a guess at it"


def test_a_base_of_another_vocabulary(palate: Palate, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "model", other)
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"][0]["content"] = "<|begin|>"
    text = json.dumps(tokenizer).replace("<|bos|>", "<|begin|>")
    (other / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = (other / "tokenizer_config.json").read_text(encoding="utf-8")
    (other / "tokenizer_config.json").write_text(
        settings.replace("<|bos|>", "<|begin|>"), encoding="utf-8"
    )
    (report,) = measured(palate("eval", run, *SMALL, "--base", other, "--json"))
    for part in ("drift", "forgetting"):
        assert report["not_measured"][part] == "the base has another vocabulary"


def test_a_model_whose_weights_are_no_numbers(palate: Palate, run: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = run / "model" / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    weights[name][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    done = palate("eval", run, *SMALL)
    assert done.exit_code == 2
    assert "diverged" in done.stderr


def test_what_is_not_measured_does_not_pass(palate: Palate, run: Path) -> None:
    done = palate("eval", run, *SMALL)
    assert done.exit_code == 3
    assert "neither evaluate.judge nor evaluate.rule names a judge" in done.stderr
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
        (["{run}", "model.path=other"], "model.path is a setting of training"),
        (["{run}", "--base", "no/such/model"], "no/such/model"),
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
    report = json.loads((run / "evaluation" / "report.json").read_text(encoding="utf-8"))
    assert report["card"]["data_hash"][:12] in page
