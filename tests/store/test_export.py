"""Export: what is written is read back as it was, and what has no place is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from palate.ingest import read_examples
from palate.records import Completion, Example, Message, Reject, Verdict
from palate.store.export import export, write, write_jsonl
from palate.store.targets import TARGETS

TOOL = {
    "type": "function",
    "function": {"name": "find_order", "parameters": {"type": "object", "properties": {}}},
}
SYSTEM = Message("system", "You answer for a bicycle shop.")
ASKED = Message("user", "Where is my order?")
HISTORY = (Message("user", "Hi"), Message("assistant", "Hello!"))
GOOD = Completion((Message("assistant", "It left us yesterday.\n\n“Friday” – 5 €"),))
BAD = Completion((Message("assistant", '{"no": [1]}'),))


def refuse(found: Reject) -> None:
    raise AssertionError(found)


def _call(arguments: object, key: str | None = None) -> Message:
    function = {"name": "find_order", "arguments": arguments}
    call = {"type": "function", "function": function}
    return Message("assistant", "", (call if key is None else {"id": key, **call},))


def _calling(arguments: object, key: str | None = None) -> tuple[Message, ...]:
    return (_call(arguments, key), Message("tool", '{"status": "shipped"}', tool_call_id=key))


def _pair(prompt: tuple[Message, ...], **more: object) -> Example:
    return Example(prompt, (BAD, GOOD), Verdict(1, 0), **more)  # type: ignore[arg-type]


def _same(one: Example) -> tuple[object, ...]:
    """What must survive: prompt, answers in the order of the verdict, thumbs, tools."""
    answers = (one.chosen, one.rejected) if one.verdict else one.completions
    said = [(answer.messages, answer.label) for answer in answers]
    return one.prompt, said, one.verdict is None, one.tools


def _there_and_back(example: Example, target: str, folder: Path) -> Example:
    path = folder / "rows.jsonl"
    assert write(path, [example], target) == 1
    (found,) = read_examples(path)
    return found


PAIRS = [
    _pair((ASKED,)),
    _pair((SYSTEM, *HISTORY, ASKED)),
    Example((ASKED,), (GOOD, Completion((Message("assistant", "x"),))), Verdict(0, 1)),
]
WITH_TOOLS = _pair((SYSTEM, ASKED, *_calling({"number": "A-17"})), tools=(TOOL,))
CALL_AGAINST_WORDS = Example(
    (ASKED,), (Completion((_call({"number": "A-17"}),)), BAD), Verdict(0, 1), tools=(TOOL,)
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("example", PAIRS)
def test_pairs(example: Example, target: str, tmp_path: Path) -> None:
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


@pytest.mark.parametrize("target", ["trl", "llama-factory"])
@pytest.mark.parametrize("example", [WITH_TOOLS, CALL_AGAINST_WORDS])
def test_tools_and_calls(example: Example, target: str, tmp_path: Path) -> None:
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


@pytest.mark.parametrize("target", ["trl", "openai"])
def test_calls_with_ids_and_arguments_as_text(target: str, tmp_path: Path) -> None:
    turns = _calling('{"number": "A-17"}', "call_1")
    example = _pair((SYSTEM, ASKED, *turns), tools=(TOOL,))
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


def test_openai_takes_arguments_as_text_alone() -> None:
    (row,) = export([CALL_AGAINST_WORDS], "openai", refuse)
    (call,) = row["preferred_output"][0]["tool_calls"]
    assert call["function"]["arguments"] == '{"number": "A-17"}'


@pytest.mark.parametrize("target", ["trl", "axolotl", "llama-factory"])
@pytest.mark.parametrize("label", [True, False])
def test_labelled(target: str, label: bool, tmp_path: Path) -> None:
    answer = Completion(GOOD.messages, label=label)
    example = Example((SYSTEM, ASKED), (answer,))
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


@pytest.mark.parametrize("target", TARGETS)
def test_demonstrations(target: str, tmp_path: Path) -> None:
    turns = (*GOOD.messages, Message("user", "Thanks"), Message("assistant", "Welcome."))
    example = Example((SYSTEM, ASKED), (Completion(turns),))
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


@pytest.mark.parametrize("target", ["trl", "openai", "llama-factory"])
def test_a_demonstration_that_calls_a_tool(target: str, tmp_path: Path) -> None:
    arguments = '{"number": "A-17"}' if target == "openai" else {"number": "A-17"}
    key = "call_1" if target == "openai" else None
    turns = (*_calling(arguments, key), *GOOD.messages)
    example = Example((ASKED,), (Completion(turns),), tools=(TOOL,))
    assert _same(_there_and_back(example, target, tmp_path)) == _same(example)


def test_several_turns_as_an_answer(tmp_path: Path) -> None:
    turns = (*GOOD.messages, Message("user", "Thanks"), Message("assistant", "Welcome."))
    example = Example((ASKED,), (Completion(turns), BAD), Verdict(0, 1))
    assert _same(_there_and_back(example, "trl", tmp_path)) == _same(example)


def test_text(tmp_path: Path) -> None:
    document = Example((), (Completion((Message("assistant", "A text.\n"),)),))
    for target in ("trl", "axolotl", "llama-factory"):
        assert _same(_there_and_back(document, target, tmp_path)) == _same(document)


def test_a_row_for_each_answer_that_has_a_thumb() -> None:
    answers = [Completion(GOOD.messages, label=True), BAD, Completion(BAD.messages, label=False)]
    written = list(export([Example((ASKED,), tuple(answers))], "trl", refuse))
    assert [row["label"] for row in written] == [True, False]


MULTI = Completion((*GOOD.messages, Message("user", "And?"), Message("assistant", "Friday.")))
TALKING = Message("assistant", "Let me look.", _call({}).tool_calls)


@pytest.mark.parametrize(
    ("target", "example", "reason"),
    [
        ("axolotl", WITH_TOOLS, "tools-not-taken"),
        ("axolotl", CALL_AGAINST_WORDS, "tools-not-taken"),
        ("axolotl", Example((ASKED,), (MULTI, BAD), Verdict(0, 1)), "several-turns"),
        ("axolotl", _pair((Message("developer", "x"), ASKED)), "role-not-taken"),
        (
            "axolotl",
            Example((*HISTORY, ASKED), (Completion(GOOD.messages, label=True),)),
            "history-not-taken",
        ),
        ("axolotl", Example((*HISTORY, ASKED), (GOOD,)), "history-learned"),
        ("openai", Example((ASKED,), (MULTI, BAD), Verdict(0, 1)), "several-turns"),
        ("openai", Example((*HISTORY, ASKED), (GOOD,)), "history-learned"),
        ("llama-factory", Example((*HISTORY, ASKED), (GOOD,)), "history-learned"),
        ("llama-factory", Example((ASKED,), (MULTI, BAD), Verdict(0, 1)), "several-turns"),
        ("llama-factory", _pair((ASKED, ASKED)), "turns-not-alternating"),
        ("llama-factory", _pair((ASKED, Message("system", "x"), ASKED)), "role-not-taken"),
        ("llama-factory", _pair((Message("developer", "x"), ASKED)), "role-not-taken"),
        ("llama-factory", Example((ASKED,), (Completion((TALKING,)),)), "words-and-call"),
        ("llama-factory", Example((ASKED,), (Completion((_call("{"),)),)), "bad-arguments"),
    ],
)
def test_what_has_no_place_is_counted(target: str, example: Example, reason: str) -> None:
    rejects: list[Reject] = []
    assert list(export([example], target, rejects.append)) == []
    assert [found.reason for found in rejects] == [reason]


GROUP = Example((ASKED,), (GOOD, BAD))
LABELLED = Example((ASKED,), (Completion(GOOD.messages, label=True),))


@pytest.mark.parametrize(
    ("target", "example", "said"),
    [
        (
            "trl",
            GROUP,
            "trl has no place for a group: it takes pair, labelled, demonstration, text",
        ),
        ("openai", LABELLED, "openai has no place for a labelled: it takes pair, demonstration"),
        ("trll", LABELLED, "unknown export format 'trll'; did you mean 'trl'"),
    ],
)
def test_a_shape_or_format_that_is_not_there(target: str, example: Example, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        list(export([example], target, refuse))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_packed_by_name_and_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert write(path, PAIRS, "trl") == 3
    first = path.read_bytes()
    assert write(path, PAIRS, "trl") == 3
    assert path.read_bytes() == first
    assert [_same(one) for one in read_examples(path)] == [_same(one) for one in PAIRS]
    if name.endswith("gz"):
        assert json.loads(gzip.decompress(first).splitlines()[0])["prompt"][0]["role"] == "user"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for a group"):
        write(path, [*PAIRS, GROUP], "trl")
    with pytest.raises(ValueError, match="nothing to write"):
        write_jsonl(path, [])
    with pytest.raises(ValueError, match="1 of 4 examples have no place in axolotl: tools-not-"):
        write(path, [*PAIRS, WITH_TOOLS], "axolotl")
    assert path.read_text(encoding="utf-8") == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]
    rejects: list[Reject] = []
    assert write(path, [*PAIRS, WITH_TOOLS], "axolotl", rejects.append) == 3
    assert [found.reason for found in rejects] == ["tools-not-taken"]
