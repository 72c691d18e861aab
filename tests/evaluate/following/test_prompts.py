"""Reading of IFEval's form, and what is said of files that are not in it."""

import json
from pathlib import Path

import pytest

from palate.evaluate.following.instruction import KINDS, Instruction
from palate.evaluate.following.prompts import InstructedPrompt, read_instructions

IFEVAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "ifeval_prompts.jsonl"


def _file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    written = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(written), encoding="utf-8")
    return path


def _row(**changes):
    row = {
        "key": 7,
        "prompt": "Name a tea.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    }
    return row | changes


def test_rows(tmp_path):
    table = {"num_words": 3, "relation": "less than", "letter": None}
    second = _row(
        key="b",
        instruction_id_list=["length_constraints:number_words", "punctuation:no_comma"],
        kwargs=[table, None],
    )
    path = _file(tmp_path, "\ufeff" + json.dumps(_row()), "", second, "")
    assert read_instructions(path) == [
        InstructedPrompt("7", "Name a tea.", (Instruction("punctuation:no_comma", {}),)),
        InstructedPrompt(
            "b",
            "Name a tea.",
            (
                Instruction(
                    "length_constraints:number_words", {"num_words": 3, "relation": "less than"}
                ),
                Instruction("punctuation:no_comma", {}),
            ),
        ),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "no JSON: "),
        ("[]", "not a JSON object"),
        (_row(key=None), "'key' is missing or of the wrong form"),
        (_row(key=True), "'key' is missing or of the wrong form"),
        (_row(prompt=" "), "'prompt' is blank"),
        (_row(kwargs={}), "'kwargs' is missing or of the wrong form"),
        (_row(kwargs=[]), "1 instructions, but 0 objects in 'kwargs'"),
        (_row(kwargs=[1]), "punctuation:no_comma: its 'kwargs' are no object"),
        (_row(instruction_id_list=[], kwargs=[]), "'instruction_id_list' is empty"),
        (
            _row(instruction_id_list=["punctuation:comma"]),
            "punctuation:comma: there is no such kind; did you mean 'punctuation:no_comma'?",
        ),
        (_row(kwargs=[{"n": 1}]), "punctuation:no_comma: there is no setting 'n'; it has none"),
        (_row(key=1), "a second row has the key '1'"),
    ],
)
def test_what_is_not_in_this_form(tmp_path, row, message):
    path = _file(tmp_path, _row(key=1), row)
    with pytest.raises(ValueError, match=r".") as caught:
        read_instructions(path)
    assert str(caught.value).startswith(f"{path}, line 2: {message}")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read: No such file"):
        read_instructions(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"rows\.jsonl: there is no prompt in it"):
        read_instructions(_file(tmp_path, "", ""))
    (tmp_path / "latin.jsonl").write_bytes(b'{"key": "\xe9"}')
    with pytest.raises(ValueError, match=r"latin\.jsonl: byte 9 is not UTF-8"):
        read_instructions(tmp_path / "latin.jsonl")


@pytest.mark.skipif(not IFEVAL.exists(), reason="IFEval's prompts are not on this machine")
def test_the_published_prompts():
    rows = read_instructions(IFEVAL)
    assert len(rows) == 541
    assert sum(len(row.instructions) for row in rows) == 834
    assert {asked.kind for row in rows for asked in row.instructions} == set(KINDS)
