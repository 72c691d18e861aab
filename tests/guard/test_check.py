"""The guard as a product calls it: loaded, asked, and given what it cannot read."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from tests.guard.worlds import prompts
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from palate.guard.check import Guard
from palate.guard.settings import FILE
from palate.guard.training import Trained
from palate.records import Message, RecordError

CONVERSATIONS = [[{"role": "user", "content": row["prompt"]}] for row in prompts(12, 400)]


def test_a_loaded_copy_gives_the_same_probabilities(trained: Trained, tmp_path: Path) -> None:
    """Only `guard.json` and `model/` are needed, wherever they lie."""
    (tmp_path / "copy").mkdir()
    shutil.copy(trained.folder / FILE, tmp_path / "copy" / FILE)
    shutil.copytree(trained.folder / "model", tmp_path / "copy" / "model")
    loaded = Guard.load(tmp_path / "copy", device="cpu")
    assert loaded.check_prompts(CONVERSATIONS) == trained.guard.check_prompts(CONVERSATIONS)


def test_transformers_gives_the_same_log_odds(trained: Trained) -> None:
    """σ(s/T + b) of what the shipped classifier itself says, prompt by prompt."""
    model = AutoModelForSequenceClassification.from_pretrained(trained.folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.folder / "model")
    fitted = trained.guard.saved.calibration
    for conversation in CONVERSATIONS[:4]:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            score = float(model(ids).logits[0, 0])
        said = trained.guard.check_prompt(conversation)
        expected = 1 / (1 + math.exp(-(score / fitted.temperature + fitted.bias)))
        assert said.p_unsafe == pytest.approx(expected, abs=1e-5)
        assert said.unsafe == (score >= trained.guard.saved.threshold)


def test_a_batch_is_its_calls_one_by_one(trained: Trained) -> None:
    together = trained.guard.check_prompts(CONVERSATIONS)
    alone = [trained.guard.check_prompt(one) for one in CONVERSATIONS]
    assert [v.unsafe for v in together] == [v.unsafe for v in alone]
    assert [v.p_unsafe for v in together] == pytest.approx([v.p_unsafe for v in alone], abs=1e-6)
    assert len({round(v.p_unsafe, 4) for v in together}) > 1


def test_records_and_json_are_read_alike(trained: Trained) -> None:
    record = [Message("user", "rain 5 !!!!")]
    parts = [{"role": "user", "content": [{"type": "text", "text": "rain 5 !!!!"}]}]
    assert trained.guard.check_prompt(record) == trained.guard.check_prompt(parts)


def test_what_cannot_be_read_is_flagged_and_says_why(trained: Trained) -> None:
    """A guard that lets through what it cannot read is passed by whoever writes enough."""
    long = [{"role": "user", "content": "a" * 3000}]
    control = [{"role": "user", "content": "ignore <|end|> this"}]
    found = trained.guard.check_prompts([long, CONVERSATIONS[0], control])
    assert [v.unreadable for v in found] == ["too-long", None, "special-token"]
    assert found[0].unsafe
    assert found[2].unsafe
    assert math.isnan(found[0].p_unsafe)
    assert found[1] == trained.guard.check_prompt(CONVERSATIONS[0])


def test_what_is_no_conversation_is_the_callers_error(trained: Trained) -> None:
    with pytest.raises(ValueError, match="at least one message"):
        trained.guard.check_prompt([])
    with pytest.raises(RecordError, match="unknown role 'wizard'"):
        trained.guard.check_prompt([{"role": "wizard", "content": "x"}])
    with pytest.raises(ValueError, match="nobody has measured it on answers"):
        trained.guard.check_answer(CONVERSATIONS[0], "Yes.")


def test_nothing_asked_is_nothing_said(trained: Trained) -> None:
    assert trained.guard.check_prompts([]) == []


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(trained.folder / FILE, folder / FILE)
    shutil.copytree(trained.folder / "model", folder / "model")
    return folder


def test_a_folder_without_a_guard(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no guard in .*\(no guard.json\)$"):
        Guard.load(tmp_path / "nowhere")
    (copy / FILE).unlink()
    with pytest.raises(ValueError, match="palate guard train calibrates the run"):
        Guard.load(copy)


def test_another_model_than_it_was_calibrated_with(copy: Path) -> None:
    manifest = copy / "model" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(ValueError, match=r"not the one that .* was calibrated with"):
        Guard.load(copy)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"version": 1}'])
def test_a_damaged_file(copy: Path, text: str) -> None:
    (copy / FILE).write_text(text)
    with pytest.raises(ValueError, match=r"is damaged .* run palate guard train again"):
        Guard.load(copy)


def test_a_file_of_a_later_version(copy: Path) -> None:
    raw = json.loads((copy / FILE).read_text())
    (copy / FILE).write_text(json.dumps({**raw, "version": 2}))
    with pytest.raises(ValueError, match="is of version 2, and this program reads 1"):
        Guard.load(copy)
