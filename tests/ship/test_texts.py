"""What an export is checked on, by what the run learned from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ship.runs import SYSTEM, pair, save_run
from tests.tiny import BOS, END, byte_tokenizer

from palate.losses.registry import lookup
from palate.records import Completion, Example, Message
from palate.ship.source import Source, open_source
from palate.ship.texts import held_texts


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(save_run(tmp_path_factory.mktemp("run")))


def ids_of(text: str) -> list[int]:
    """One token for each byte."""
    return list(byte_tokenizer()(text)["input_ids"])


def test_answers_of_held_out_pairs(source: Source) -> None:
    found = held_texts(source, 10_000)
    assert found.origin == "held-out examples"
    assert len(found.items) == 6  # three pairs
    first = found.items[0]
    assert [first.ids[t] for t in first.scored] == [*ids_of(pair(0).chosen.text), END]
    assert SYSTEM in first.prompt
    assert first.ids[: len(first.prompt_ids)] == first.prompt_ids
    assert first.scored[0] == len(first.prompt_ids)
    assert held_texts(source, 1).items == found.items[:1]
    assert source.system == SYSTEM


def test_a_run_on_own_samples_is_measured_on_what_it_says_now(source: Source) -> None:
    turns = [{"role": "user", "content": "Who?"}]
    row = {"group": "g", "prompt": turns, "tokens": 3, "finished": True, "result": None}
    lines = [
        {**row, "stage": stage, "text": text, "kl": None}
        for stage, text in (("before", "old"), ("after", "new"))
    ]
    file = source.folder / "samples.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    try:
        found = held_texts(replace(source, method=lookup("grpo")), 100)
    finally:
        file.unlink()
    assert found.origin == "the trained model's answers to held-out prompts"
    (text,) = found.items
    assert [text.ids[t] for t in text.scored] == [*ids_of("new"), END]


def test_prompts_alone_are_measured_whole(source: Source) -> None:
    asked = Example((Message("user", "Who?"),), ())
    online = replace(source, method=lookup("grpo"), heldout=[asked])
    (text,) = held_texts(online, 100).items
    assert text.scored == tuple(range(1, len(text.ids)))


def test_documents_are_measured_whole(source: Source) -> None:
    document = Example((), (Completion((Message("assistant", "ab"),)),))
    texts = held_texts(replace(source, method=lookup("pretrain"), heldout=[document]), 100)
    assert texts.items[0].ids[-3:] == (*ids_of("ab"), END)
    assert texts.items[0].prompt == ""
    assert BOS not in texts.items[0].ids  # this tokenizer puts none


def test_where_nothing_was_held_out_it_is_said(source: Source, tmp_path: Path) -> None:
    found = held_texts(replace(source, heldout=[]), 100)
    assert found.origin == "training examples (the run held none out)"
    long = replace(pair(0), prompt=(Message("user", "x" * 5000),))
    found = held_texts(replace(source, heldout=[long]), 100)
    assert found.origin == "training examples (none that was held out can be rendered)"
    with pytest.raises(ValueError, match="no example of"):
        held_texts(replace(source, heldout=[], train=[]), 100)
