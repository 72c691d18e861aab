"""Public data sets as published; docs/formats.md has the same numbers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from palate.ingest import IngestError, read_examples
from palate.records import Reject

SHARED = Path(os.environ.get("PALATE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
ASKED = "columns:prompt=question,completion=answer"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
SOLUTIONS = "columns:prompt=question," + ",".join(
    f"completion={model}.solution,label={model}.is_correct" for model in MODELS
)
COMPARED = (
    "columns:prompt=instruction,prompt=input,completion=response1,completion=response2,"
    "vote=annotator1,vote=annotator2,vote=annotator3"
)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the shared test data is not here: {path}")
    return path


@pytest.mark.parametrize(
    ("name", "format", "shapes", "refused"),
    [
        ("dpo_en_demo.json", "auto", {"pair": 300}, {}),
        ("polite_pairs.json", "auto", {"pair": 1094}, {"equal-answers": 6}),
        ("kto_en_demo.json", "auto", {"labelled": 300}, {}),
        ("banking77_train.csv", "auto", {"text": 10_003}, {}),
        ("ifeval_prompts.jsonl", "columns:text=prompt", {"text": 541}, {}),
        ("xstest_prompts.csv", "auto", {"labelled": 450}, {}),
        ("presidio_synth_v2.json", "columns:text=full_text", {"text": 1_500}, {}),
        ("gsm8k_test.jsonl", ASKED, {"demonstration": 1_319}, {}),
        ("gsm8k_train.jsonl", ASKED, {"demonstration": 7_473}, {}),
        ("gsm8k_model_solutions.jsonl", SOLUTIONS, {"labelled": 1_319}, {}),
        (
            "pandalm_testset.json",
            COMPARED,
            {"pair": 855},
            {"tie": 84, "empty-answer": 54, "wrong-type": 6},
        ),
    ],
)
def test_what_is_in_them(
    name: str, format: str, shapes: dict[str, int], refused: dict[str, int]
) -> None:
    rejects: list[Reject] = []
    found = list(read_examples(shared(name), format, rejects.append))
    assert Counter(str(example.shape) for example in found) == shapes
    assert Counter(reject.reason for reject in rejects) == refused


def test_solutions_and_their_labels() -> None:
    found = read_examples(shared("gsm8k_model_solutions.jsonl"), SOLUTIONS)
    labels = Counter(one.label for example in found for one in example.completions)
    assert labels == {True: 2_001, False: 3_275}


def test_how_strongly_the_annotators_agree() -> None:
    found = read_examples(shared("pandalm_testset.json"), COMPARED)
    strengths = Counter(round(e.verdict.strength or 0, 2) for e in found if e.verdict)
    assert strengths == {1.0: 742, 0.67: 94, 0.33: 19}


@pytest.mark.parametrize("name", ["ifeval_prompts.jsonl", "presidio_synth_v2.json"])
def test_prompts_alone_are_no_format(name: str) -> None:
    with pytest.raises(IngestError, match=r"matches no format.*columns:prompt=COLUMN"):
        list(read_examples(shared(name)))
