"""Contamination: evaluation prompts in training data."""

import json
from pathlib import Path

import pytest

from palate.curate.contamination import drop_contaminated, read_evaluation
from palate.ingest import IngestError
from palate.records import Completion, Example, Message, Provenance, Verdict

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LONG = (
    "Mary has three baskets with seven apples each, and gives two apples of every basket to Tom. "
    "How many apples has she now?"
)


def _example(line, prompt, answer="a", system=None):
    messages = [Message("system", system)] if system else []
    return Example(
        (*messages, Message("user", prompt)),
        (Completion((Message("assistant", answer),)), Completion((Message("assistant", "b"),))),
        verdict=Verdict(0, 1),
        provenance=(Provenance("log", line),),
    )


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(f"Where is Hull?\n\n{LONG}\n", encoding="utf-8")
    return str(path)


def _lines(examples, evaluation):
    rejects = []
    kept = drop_contaminated(examples, rejects.append, evaluation)
    return [e.provenance[0].line for e in kept], [(r.line, r.reason, r.detail) for r in rejects]


def test_a_run_of_words_or_a_whole_short_prompt(prompts):
    inside = " ".join(LONG.upper().replace(",", ";").split()[2:15])  # 13 words
    rows = [
        _example(1, f"Riddle: {inside}!"),
        _example(2, " ".join(LONG.split()[2:14])),  # 12 words
        _example(3, "where is hull"),
        _example(4, "Where is Hull? And what is there to see?"),
        _example(5, "What would you ask?", answer=LONG),
        _example(6, "What would you ask?", system=LONG),
    ]
    kept, rejects = _lines(rows, read_evaluation([prompts], 13))
    assert kept == [2, 4, 6]
    assert rejects == [
        (1, "contaminated", f"it holds the prompt of {prompts}:3"),
        (3, "contaminated", f"it holds the prompt of {prompts}:1"),
        (5, "contaminated", f"it holds the prompt of {prompts}:3"),
    ]
    assert _lines(rows, read_evaluation([prompts], 12))[0] == [4, 6]


def test_words_of_two_speakers_are_no_run(prompts):
    words = LONG.split()
    first, second = " ".join(words[:11]), " ".join(words[11:])
    example = Example(
        (Message("user", first), Message("assistant", second), Message("user", "go on")),
        (Completion((Message("assistant", second),)),),
        provenance=(Provenance("log", 1),),
    )
    assert _lines([example], read_evaluation([prompts], 13)) == ([1], [])


def test_many_examples_keep_their_order(prompts, monkeypatch):
    monkeypatch.setattr("palate.curate.contamination._CHUNK", 3)
    rows = [_example(i, LONG if i % 4 == 0 else f"question {i}") for i in range(20)]
    kept, rejects = _lines(rows, read_evaluation([prompts], 13))
    assert kept == [i for i in range(20) if i % 4]
    assert [line for line, _, _ in rejects] == list(range(0, 20, 4))


ROWS = {
    "trl": {"prompt": LONG, "chosen": "x", "rejected": "y"},
    "chat": {
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": LONG}],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "15"}}],
    },
    "question": {"question": LONG, "answer": "15"},
    "prompt alone": {"id": 7, "prompt": LONG},
    "text": {"text": LONG, "category": "sums"},
}


@pytest.mark.parametrize("kind", ROWS)
def test_files_of_many_shapes(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(ROWS[kind])}\n", encoding="utf-8")
    evaluation = read_evaluation([str(path)], 13)
    assert evaluation.names == (f"{path}:2",)
    kept, rejects = _lines([_example(1, LONG), _example(2, "Be kind.")], evaluation)
    assert (kept, len(rejects)) == ([2], 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"id": 1, "answer": "x"}', "has the fields id, answer, and none of prompt"),
        ("a.jsonl", "{broken", ":1 is no evaluation prompt"),
        ("a.jsonl", "", "holds no evaluation prompt"),
        ("missing.jsonl", None, "cannot read"),
        ("missing.txt", None, "cannot read"),
    ],
)
def test_files_without_prompts_are_said(tmp_path, name, text, said):
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(IngestError, match=said) as caught:
        read_evaluation([str(path)], 13)
    assert "\n" not in str(caught.value)


def test_no_evaluation_prompt_is_found_in_nothing(prompts):
    evaluation = read_evaluation([prompts], 13)
    assert evaluation.found_in([]) == []
    assert evaluation.found_in(["", "…"]) == [None, None]
    assert read_evaluation([], 13).found_in([LONG]) == [None]


def test_an_evaluation_prompt_without_words_contaminates_nothing(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("…\n", encoding="utf-8")
    assert _lines([_example(1, "!"), _example(2, "?")], read_evaluation([str(path)], 13))[0] == [
        1,
        2,
    ]


def test_real_evaluation_prompts_are_found():
    """The same 1,319 questions stand in both files; in the training part of GSM8K none does."""
    names = ("gsm8k_test.jsonl", "gsm8k_model_solutions.jsonl", "gsm8k_train.jsonl")
    test, solved, train = (DATA / name for name in names)
    if not test.is_file():
        pytest.skip("the public GSM8K files are not here")
    evaluation = read_evaluation([str(test)], 13)

    def questions(path):
        rows = path.read_text(encoding="utf-8").splitlines()
        return [_example(i, json.loads(row)["question"]) for i, row in enumerate(rows, 1)]

    assert len(_lines(questions(solved), evaluation)[1]) >= 1300
    assert len(_lines(questions(train)[:2000], evaluation)[1]) < 20


def test_a_prompt_of_several_turns_is_found_as_it_is_read(tmp_path):
    """The turns have 6 and 10 words: every run of 13 spans both."""
    turns = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And how many people live in the city these days?"},
    ]
    answers = {f: [{"role": "assistant", "content": f}] for f in ("chosen", "rejected")}
    path = tmp_path / "turns.jsonl"
    path.write_text(json.dumps({"prompt": turns} | answers), encoding="utf-8")
    prompt = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    example = Example(
        prompt, _example(1, "x").completions, Verdict(0, 1), provenance=(Provenance("log", 1),)
    )
    kept, rejects = _lines([example], read_evaluation([str(path)], 13))
    assert kept == []
    assert [reason for _, reason, _ in rejects] == ["contaminated"]
