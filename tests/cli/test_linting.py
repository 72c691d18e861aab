"""`palate data lint`: what it prints, its exit code, and the model's own share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PROMPTS

from palate.cli.likelihood import open_model
from palate.cli.linting import run_lint
from palate.cli.stop import Stopped
from palate.cli.targets import open_target
from palate.curate.lint import TargetModel
from palate.progress import Quiet
from palate.records import Completion, Example, Message, Verdict
from palate.store.snapshot import write_snapshot


def _pair(number: int, chosen: str, rejected: str) -> Example:
    completions = tuple(Completion((Message("assistant", text),)) for text in (chosen, rejected))
    prompt = Message("user", f"Tell me about {number} and {number * number} things, will you")
    return Example((prompt,), completions, Verdict(0, 1))


@pytest.fixture
def long_wins(tmp_path: Path) -> Path:
    """A snapshot of 90 pairs in which the longer answer wins, 30 of them held out."""
    pairs = [
        _pair(number, f"{number} is a number, and one among many.", f"Number {number}.")
        for number in range(90)
    ]
    write_snapshot(tmp_path / "snap", pairs[:60], pairs[60:])
    return tmp_path / "snap"


@dataclass(frozen=True)
class Asked:
    """A tiny random model as lint asks it."""

    model: TargetModel
    tokens: Callable[[str], int]


@pytest.fixture(scope="module")
def asked(tiny_model_folder: Path) -> Asked:
    return Asked(*open_model(str(tiny_model_folder), Quiet()))


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_findings_are_printed_with_number_cure_and_examples(
    long_wins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lint(str(long_wins))
    said = capsys.readouterr().out
    assert f"{long_wins}: 90 pairs, 30 held out" in said
    assert "! length  100 % [96, 100]" in said
    assert "Cure: Make pairs of about equal length" in said
    first = open_target(str(long_wins)).train[0].id
    assert first in said
    assert "· held-out-size" in said
    assert "numbers measured" in said
    assert "What was measured" not in said


def test_json_says_where_the_named_examples_stood(tmp_path: Path, capsys: Any) -> None:
    lines = [
        json.dumps(
            {"prompt": f"About {n}?", "chosen": f"{n} is it, and more.", "rejected": f"{n}."}
        )
        for n in range(60)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    run_lint(str(path), as_json=True)
    found = _json(capsys)
    (length,) = [one for one in found["findings"] if one["check"] == "length"]
    known = {one.id: one for one in open_target(str(path)).train}
    assert length["examples"]
    for key in length["examples"]:
        (place,) = found["places"][key]
        (row,) = known[key].provenance
        assert place == {"source": row.source, "line": row.line, "hash": row.hash}
    named = {key for one in found["findings"] for key in one["examples"]}
    assert set(found["places"]) == named


def test_every_number_is_listed_on_demand(
    long_wins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lint(str(long_wins), every=True)
    said = capsys.readouterr().out
    assert "near-duplicates" in said.split("What was measured")[1]


def test_json_is_one_report_and_nothing_else(
    long_wins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lint(str(long_wins), as_json=True)
    found = _json(capsys)
    assert found["target"] == str(long_wins)
    assert found["shape"] == "pair"
    assert found["findings"][0]["check"] == "length"
    assert found["findings"][0]["severity"] == "warning"
    assert len(found["findings"][0]["examples"]) == 10
    assert found["numbers"]


def test_findings_do_not_fail_the_command_unless_it_is_strict(long_wins: Path) -> None:
    run_lint(str(long_wins))
    with pytest.raises(Stopped, match=r"warnings? in ") as stopped:
        run_lint(str(long_wins), strict=True)
    assert stopped.value.code == 1


def test_notes_do_not_fail_a_strict_command(tmp_path: Path) -> None:
    few = [_pair(number, f"so {number}", f"or {number}") for number in range(12)]
    write_snapshot(tmp_path / "few", few[:9], few[9:])
    run_lint(str(tmp_path / "few"), strict=True)


def test_a_file_is_not_told_that_nothing_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": f"Ask {n} of {n * n}", "chosen": f"yes {n}", "rejected": f"no {n}"}
        for n in range(30)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    run_lint(str(path), as_json=True)
    found = _json(capsys)
    assert found["given"] == 30
    assert "held-out-size" not in {number["check"] for number in found["numbers"]}


def test_rows_that_the_filters_dropped_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for n in range(60):
        row = {"prompt": f"Ask {n} of {n * n}", "chosen": f"yes {n}", "rejected": f"no {n}"}
        rows.append(row)
        if n % 4 == 0:
            rows.append({**row, "chosen": row["rejected"], "rejected": row["chosen"]})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    run_lint(str(path), as_json=True)
    found = {finding["check"]: finding for finding in _json(capsys)["findings"]}
    # 45 pairs are left, 30 rows were dropped as contradictory.
    assert "30 of 75 judgements" in found["contradictions"]["sentence"]


def test_what_is_no_target_is_told_in_one_line() -> None:
    with pytest.raises(ValueError, match="there is no nowhere"):
        run_lint("nowhere")


def test_a_run_and_its_model(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_lint(str(finished_run), model=str(finished_run), as_json=True)
    found = _json(capsys)
    assert found["given"] == PROMPTS
    assert {number["check"] for number in found["numbers"]} >= {"near-duplicates"}


def test_the_models_own_answers_are_likelier_to_it_than_noise(asked: Asked) -> None:
    """A random model with a byte tokenizer: what it samples is likely to it, text is not."""
    model, tokens = asked.model, asked.tokens
    assert model.names[-1] == "tiny"
    assert model.logprobs is not None
    assert model.own is not None
    assert tokens("four") == 4
    pairs = [_pair(number, f"Answer {number}.", "No.") for number in range(6)]
    given, own = model.logprobs(pairs), model.own(pairs)
    assert [len(values) for values in given] == [2] * 6
    assert len(own) == 6
    assert all(value < 0 for value in [*own, *(v for values in given for v in values)])
    text = sum(value for values in given for value in values) / 12
    # It is close to uniform over its 272 tokens; its own answers are likelier than that.
    assert sum(own) / 6 > -math.log(272) > text


def test_log_probs_are_those_of_the_plain_model(asked: Asked) -> None:
    """The mean over the answer's tokens, its end included, from transformers' own logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = asked.model
    assert model.logprobs is not None
    pair = _pair(3, "Answer three.", "No.")
    (given,) = model.logprobs([pair])
    plain = AutoModelForCausalLM.from_pretrained(model.names[0], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.names[0])
    prompt = f"<|start|>user\n{pair.prompt[0].content}<|end|>\n<|start|>assistant\n"
    for text, value in zip(("Answer three.", "No."), given, strict=True):
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = head + tokenizer(f"{text}<|end|>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logs = plain(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        wanted = [float(logs[at - 1, ids[at]]) for at in range(len(head), len(ids))]
        # The policy may compute in bf16 here.
        assert value == pytest.approx(sum(wanted) / len(wanted), abs=0.1)


def test_what_the_model_cannot_read_has_no_value(asked: Asked) -> None:
    model = asked.model
    assert model.logprobs is not None
    assert model.own is not None
    long = Example((Message("user", "x" * 5000),), _pair(1, "a", "b").completions, Verdict(0, 1))
    control = Example((Message("user", "<|end|>"),), long.completions, Verdict(0, 1))
    fine = _pair(2, "an answer", "another")
    given, own = model.logprobs([long, fine, control]), model.own([long, fine])
    assert [len(values) for values in given] == [0, 2, 0]
    assert math.isnan(own[0])
    assert math.isfinite(own[1])


def test_long_answers_are_compared_by_their_beginning(asked: Asked) -> None:
    model = asked.model
    assert model.logprobs is not None
    beginning = "ab " * 50
    pairs = [_pair(1, beginning, beginning + "zzz" * n) for n in (10, 200)]
    (first,), (second,) = ((values[1:]) for values in model.logprobs(pairs))
    assert first == pytest.approx(second, abs=0.02)
