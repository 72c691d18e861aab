from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.cli.conftest import SYSTEM
from tests.tiny import byte_tokenizer
from typer.testing import Result

from palate.cli.journey import Journey, find_example
from palate.cli.scores import score
from palate.cli.trace import masked
from palate.store.snapshot import read_snapshot
from palate.tokens.tree import Branch, build_forest

Palate = Callable[..., Result]


def traced(palate: Palate, run: Path, example: str, *more: str) -> str:
    done = palate("data", "trace", example, "--run", run, *more)
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def test_every_stage_is_shown(palate: Palate, finished_run: Path) -> None:
    out = traced(palate, finished_run, "train:0")
    snapshot = read_snapshot(finished_run / "snapshot")
    example = snapshot.train[0]
    titles = re.findall(r"^(\d)  (\w+)", out, re.MULTILINE)
    assert titles == [
        ("1", "Source"),
        ("2", "Record"),
        ("3", "Snapshot"),
        ("4", "Tokens"),
        ("5", "Tree"),
        ("6", "Steps"),
    ]
    row = example.provenance[0]
    assert f"{row.source}, line {row.line}" in out
    assert '{"prompt": [{"role": "system"' in out, "the row as it stands in the file"
    assert example.id in out
    assert snapshot.manifest.content_hash in out
    assert f"train:0 of {len(snapshot.train)}" in out


def test_trained_tokens_stand_in_brackets_and_markup_is_text(
    palate: Palate, finished_run: Path
) -> None:
    example = read_snapshot(finished_run / "snapshot").train[1]
    out = traced(palate, finished_run, example.id[:8])
    assert f"⟦{example.chosen.text}<|end|>⟧" in out
    rejected = example.rejected.text
    assert "[bold]" in rejected
    assert f"⟦{rejected}<|end|>⟧" in out
    prompt = example.prompt[-1].content
    # Template of the tiny tokenizer; nothing of the prompt is trained on.
    assert f"<|start|>system\n{SYSTEM}<|end|>\n<|start|>user\n{prompt}<|end|>\n" in out
    assert out.count("⟦") == 3, "two answers and the legend"


def test_lengths_and_segments_are_those_of_the_text(palate: Palate, finished_run: Path) -> None:
    out = traced(palate, finished_run, "train:2")
    example = read_snapshot(finished_run / "snapshot").train[2]
    # One token a byte; a turn adds <|start|>, its role, <|end|> and two line breaks, the opened
    # answer <|start|>, "assistant" and a line break, an answer its <|end|>.
    question = example.prompt[-1].content
    prompt = (4 + 6 + len(SYSTEM)) + (4 + 4 + len(question)) + (2 + 9)
    answers = [len(c.text.encode()) + 1 for c in (example.chosen, example.rejected)]
    assert f"prompt {prompt} tokens; chosen {answers[0]}, rejected {answers[1]}" in out
    total = 2 * prompt + sum(answers)
    assert f"{total} tokens on all paths, {total - prompt} computed, {prompt} saved" in out
    assert f"segment 0: rows 0 to {prompt}, a root, length {prompt}, 0 tokens above" in out
    children = re.findall(r"segment (\d): rows .*, parent 0, length (\d+), (\d+) tokens above", out)
    assert sorted(int(length) for _, length, _ in children) == sorted(answers)
    assert {int(above) for _, _, above in children} == {prompt}


def test_the_steps_are_those_that_were_trained(palate: Palate, finished_run: Path) -> None:
    """3 steps of 4 draw each of the 10 training pairs once, 4 + 4 + 2.

    What the traces put into each step adds up to the tokens that training wrote down for it.
    """
    micros: dict[int, set[tuple[int, ...]]] = {}
    for index in range(10):
        (draw,) = Journey(finished_run, f"train:{index}").draws
        assert index in draw.rows
        assert 1 <= draw.micro <= draw.of
        micros.setdefault(draw.step, set()).add(draw.rows)
    assert {step: sum(map(len, m)) for step, m in micros.items()} == {1: 4, 2: 4, 3: 2}
    rendered = Journey(finished_run, "train:0").all_rendered
    found = {
        step: sum(
            build_forest([b for row in rows for b in rendered[row].branches]).unique_tokens
            for rows in parts
        )
        for step, parts in micros.items()
    }
    lines = (finished_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    assert found == {line["step"]: line["unique_tokens"] for line in trained}
    assert max(len(parts) for parts in micros.values()) > 1, "steps are cut into several"
    step = Journey(finished_run, "train:0").draws[0].step
    out = traced(palate, finished_run, "train:0")
    assert f"step {step}, micro-batch" in out
    assert f"its micro-batch in step {step}" in out


def test_a_held_out_pair_is_never_drawn(palate: Palate, finished_run: Path) -> None:
    out = traced(palate, finished_run, "heldout:1")
    assert "heldout:1 of 2" in out
    assert "held out: measured, never trained on" in out


def test_scores_before_training_are_those_of_the_reference(finished_run: Path) -> None:
    before, after = score(Journey(finished_run, "train:0"))
    assert before.loss == pytest.approx(math.log(2), abs=1e-6)
    assert before.ratios == [0.0, 0.0]
    a, b = after.ratios
    assert a == pytest.approx(after.logps[0] - before.logps[0], abs=1e-3)
    # The paper's formula by hand: −log σ(0.1·(a − b)) = log(1 + e^(−0.1·(a − b)))
    assert after.loss == pytest.approx(math.log1p(math.exp(-0.1 * (a - b))), abs=1e-6)
    assert after.metrics["margin"] == pytest.approx(0.1 * (a - b), abs=1e-6)
    assert a - b > 0.01, "three steps at a high rate moved the pair the right way"


def test_scores_are_printed(palate: Palate, finished_run: Path) -> None:
    out = traced(palate, finished_run, "train:0", "--scores")
    assert "7  Scores" in out
    for word in ("Σ log π_ref", "a = ", "b = ", "margin", "loss (dpo)", "0.6931"):
        assert word in out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("zzzz", "no example is called 'zzzz'; there is: "),
        ("train:10", "there is no example 'train:10': train:0 to train:9"),
        ("heldout:x", "heldout:0 to heldout:1"),
        ("", "no example is called ''"),
    ],
)
def test_an_unknown_example_is_one_line_with_valid_ids(
    wanted: str, said: str, palate: Palate, finished_run: Path
) -> None:
    done = palate("data", "trace", wanted, "--run", finished_run)
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert said in done.output
    assert done.output.count("\n") == 1


def test_an_ambiguous_beginning_names_candidates(finished_run: Path) -> None:
    data = read_snapshot(finished_run / "snapshot")
    ids = [e.id for e in [*data.train, *data.heldout]]
    first = next((i[0] for i in ids if sum(j[0] == i[0] for j in ids) > 1), None)
    if first is None:
        pytest.skip("no two ids begin with the same digit")
    with pytest.raises(ValueError, match=f"examples begin with '{first}'"):
        find_example(data, first)


def test_a_folder_without_a_run_is_one_line(palate: Palate, tmp_path: Path) -> None:
    done = palate("data", "trace", "train:0", "--run", tmp_path / "none")
    assert done.exit_code == 2
    assert "there is no run in" in done.output
    assert done.output.count("\n") == 1


def test_a_file_that_changed_or_went_is_said(
    palate: Palate, finished_run: Path, tmp_path: Path
) -> None:
    source = Path(read_snapshot(finished_run / "snapshot").train[0].provenance[0].source)
    kept = shutil.copy(source, tmp_path / "kept")
    try:
        source.write_text('{"prompt": "other"}\n' * 12, encoding="utf-8")
        assert "the file has changed since" in traced(palate, finished_run, "train:0")
        source.unlink()
        assert "the file is not here any more" in traced(palate, finished_run, "train:0")
    finally:
        shutil.copy(kept, source)


def test_colours_follow_the_mask() -> None:
    branch = Branch(list(b"ab[red]\xc3\xa9"), [False, False] + [True] * 7)
    tokenizer = byte_tokenizer()
    ids = tokenizer("ab[red]é", add_special_tokens=False)["input_ids"]
    text = masked(tokenizer, Branch(ids, branch.mask), 0, 9, coloured=True)
    assert text.plain == "ab[red]é"
    styled = {text.plain[s.start : s.end]: str(s.style) for s in text.spans}
    assert styled["a"] == "dim"
    assert styled["["] == "green"
    assert styled["é"] in {"green", "bold green"}
    console = Console(width=80, force_terminal=True, color_system="standard", markup=False)
    with console.capture() as shown:
        console.print(text)
    assert "[" in shown.get()
    assert torch.is_grad_enabled()
