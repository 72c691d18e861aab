from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from palate.cli import recipe
from palate.cli.main import app
from palate.config import load_config

PAIR = {"prompt": "How are you?", "chosen": "Very well, thank you.", "rejected": "Go away."}


def write(path: Path, rows: list[dict[str, Any]], *more: str) -> Path:
    lines = [json.dumps(row) for row in rows] + list(more)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def chat(question: str, answer: str, thumb: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "request": {"messages": [{"role": "user", "content": question}]},
        "response": {"choices": [{"message": {"role": "assistant", "content": answer}}]},
    }
    return row if thumb is None else {**row, "feedback": thumb}


def init(*words: object) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, words)])


def test_pairs_become_a_dpo_recipe_that_loads(tmp_path: Path) -> None:
    data = write(tmp_path / "my pairs.jsonl", [{**PAIR, "prompt": f"Q{i}"} for i in range(3)])
    out = tmp_path / "recipe.yaml"
    done = init("smollm2-135m-instruct", data, "-o", out)
    assert done.exit_code == 0, done.output
    config = load_config(out)
    assert config.method["name"] == "dpo"
    assert config.data.path == str(data)
    assert config.data.format == "trl"
    assert config.name == "my-pairs"
    assert f"palate train {out}" in done.output
    assert f"palate doctor {out}" in done.output


def test_the_recipe_changes_no_default(tmp_path: Path) -> None:
    from palate.config import build_config
    from palate.losses.registry import find

    data = write(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "prompt": "And now?"}])
    out = tmp_path / "recipe.yaml"
    init("a-model", data, "-o", out)
    written = load_config(out)
    bare = build_config(
        {
            "name": "pairs",
            "model": "a-model",
            "data": {"path": str(data), "format": "trl"},
            "method": written.method,
        }
    )
    assert written == bare
    method, params = find(written.method)
    assert params == method.params()


def test_every_setting_of_the_recipe_is_explained(tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", [PAIR])
    text = recipe.recipe_text("m", str(data), "dpo", recipe.look(str(data)), "2 pairs")
    lines = text.splitlines()
    settings = [i for i, line in enumerate(lines) if line.strip() and "#" not in line]
    unexplained = [lines[i] for i in settings if "#" not in lines[i - 1]]
    assert unexplained == ["  name: dpo"], "the comment above `method:` is about its name"
    assert "docs/config.md" in text
    assert all(len(line) <= 100 for line in lines)


def test_thumbs_that_contrast_become_dpo_and_the_rest_is_counted(tmp_path: Path) -> None:
    rows = [chat("a?", "yes", "up"), chat("a?", "no", "down"), chat("b?", "yes", "up")]
    data = write(tmp_path / "log.jsonl", rows, "{broken")
    found = recipe.look(str(data))
    assert (found.format, found.rows, found.whole) == ("openai-chat", 4, True)
    assert found.shapes == {"labelled": 3}
    assert found.rejected == {"broken-json": 1}
    assert (found.pairs, found.demonstrations) == (1, 2)
    done = init("m", data, "-o", tmp_path / "r.yaml")
    assert "broken-json" in done.output
    assert load_config(tmp_path / "r.yaml").method["name"] == "dpo"


def test_thumbs_without_contrast_and_demonstrations_become_sft(tmp_path: Path) -> None:
    for name, rows in {
        "ups": [chat("a?", "yes", "up"), chat("b?", "yes", "up")],
        "plain": [chat("a?", "yes", None), chat("b?", "yes", None)],
    }.items():
        out = tmp_path / f"{name}.yaml"
        done = init("m", write(tmp_path / f"{name}.jsonl", rows), "-o", out)
        assert done.exit_code == 0, done.output
        assert load_config(out).method == {"name": "sft"}


def test_nothing_that_fits_is_one_line_with_the_cure(tmp_path: Path) -> None:
    data = write(tmp_path / "downs.jsonl", [chat("a?", "no", "down"), chat("b?", "no", "down")])
    done = init("m", data, "-o", tmp_path / "r.yaml")
    assert done.exit_code == 2
    assert done.output.startswith("error: no method fits")
    assert done.output.count("\n") == 1
    assert not (tmp_path / "r.yaml").exists()


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    out = tmp_path / "recipe.yaml"
    out.write_text("mine", encoding="utf-8")
    done = init("m", write(tmp_path / "pairs.jsonl", [PAIR]), "-o", out)
    assert done.exit_code == 2
    assert done.output.startswith(f"error: {out} exists already")
    assert "-o" in done.output
    assert done.output.count("\n") == 1
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("m", "nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("./no/such/model", "pairs.jsonl", "there is no model at ./no/such/model"),
        ("absent.gguf", "pairs.jsonl", "there is no model at absent.gguf"),
    ],
)
def test_what_is_not_there_is_one_line(
    model: str, data: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pairs.jsonl", [PAIR])
    done = init(model, data)
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1


def test_only_the_first_rows_are_read(tmp_path: Path) -> None:
    rows = [{**PAIR, "prompt": f"Q{i}"} for i in range(40)]
    found = recipe.look(str(write(tmp_path / "pairs.jsonl", rows)), limit=10)
    assert (found.rows, found.pairs, found.whole) == (10, 10, False)
    found = recipe.look(str(write(tmp_path / "bad.jsonl", rows, *["{"] * 90)), limit=60)
    assert not found.whole
    assert found.rejected["broken-json"] <= 21


def test_a_file_with_one_prompt_holds_nothing_out(tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    init("m", write(tmp_path / "one.jsonl", [PAIR]), "-o", out)
    assert load_config(out).data.heldout == 0


def test_few_pairs_beside_many_answers_are_said(tmp_path: Path) -> None:
    found = recipe.Found("trl", 99, True, {}, {}, "", 4, 90, 4, ())
    method, why = recipe.choose_method(found, "x")
    assert method == "dpo"
    assert "few" in why
    assert "90" in why


@pytest.mark.parametrize(
    ("data", "name"),
    [("logs/May 2024.jsonl.gz", "May-2024"), ("hub:org/some.set", "some"), ("/", "run")],
)
def test_run_names_are_folder_names(data: str, name: str) -> None:
    assert recipe.run_name(data) == name


@pytest.mark.slow
def test_init_needs_no_torch(tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", [PAIR])
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from palate.cli.recipe import run_init\n"
        f"run_init('m', {str(data)!r}, {str(tmp_path / 'r.yaml')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_many_thumbs_beside_a_pair_by_chance_are_for_kto(tmp_path: Path) -> None:
    """A log of thumbs in which one prompt happens to have both kinds; held out by all prompts."""
    thumbs = {True: 20, False: 21}
    found = recipe.Found("trl", 41, True, {}, {}, "", 1, 20, 1, (), thumbs, 40)
    method, why = recipe.choose_method(found, "x")
    assert (method, why) == ("kto", "pairs: only 1, but 20 thumbs up and 21 down")
    assert (found.prompts_for("kto"), found.prompts_for("dpo")) == (40, 1)
    # ten thumbs a pair is what pairs are made of, so they stay pairs
    found = recipe.Found("trl", 10, True, {}, {}, "", 1, 5, 1, (), {True: 5, False: 5}, 9)
    assert recipe.choose_method(found, "x")[0] == "dpo"
