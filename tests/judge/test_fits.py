"""JSON against a schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.judge.worlds import answered

from palate.judge import fits
from palate.judge.fits import SchemaScorer, load_schema, read_json

ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "state": {"enum": ["sent", "lost"]}},
    "required": ["id", "state"],
    "additionalProperties": False,
}


def test_fits_or_how_far_from_it() -> None:
    texts = [
        '{"id": 7, "state": "sent"}',
        'Here it is:\n```json\n{"id": 7, "state": "lost"}\n```\nAnything else?',
        '{"id": "7", "state": "sent"}',  # one violation
        '{"id": "7", "state": "gone"}',  # two
        '{"id": 7, "state": ',
        "The order is lost.",
    ]
    scores = SchemaScorer(ORDER).score([answered(text) for text in texts])
    assert [s.value for s in scores] == [1.0, 1.0, 0.5, pytest.approx(1 / 3), 0.0, 0.0]
    assert [s.passed for s in scores] == [True, True, False, False, False, False]
    assert scores[2].failed == ("$.id: '7' is not of type 'integer'",)
    assert scores[4].failed == ("no JSON",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```json\n1\n```\n```json\n2\n```", "several blocks of JSON"),
        ("```python\n1\n```", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("NaN", "no JSON"),
        ('{"a": Infinity}', "no JSON"),
        ("1" * 5000, "no JSON"),
        ("1 2", "no JSON"),
        ("", "no JSON"),
    ],
)
def test_what_is_no_json(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_json(text)


def test_other_blocks_do_not_hide_the_json() -> None:
    assert read_json('```sh\nls\n```\n```JSON\n{"a": 1}\n```') == {"a": 1}


def test_a_pattern_that_takes_for_ever_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "SECONDS", 0.05)
    judge = SchemaScorer({"type": "string", "pattern": r"^(\w|\w\w)+$"})
    slow, right, wrong = judge.score(
        [answered(json.dumps(text)) for text in ("w" * 60 + "!", "word", "!")]
    )
    assert slow.value is None
    assert slow.failure == "a pattern of the schema took more than 0.05 s"
    assert right.passed
    assert wrong.passed is False


def test_nothing_is_fetched() -> None:
    judge = SchemaScorer({"$ref": "http://127.0.0.1:9/schema.json"})
    (score,) = judge.score([answered("{}")])
    assert score.value is None
    assert score.failure is not None
    assert score.failure.startswith("the schema cannot be followed")


def test_a_schema_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text(json.dumps(ORDER))
    assert load_schema(str(path)) == ORDER
    with pytest.raises(ValueError, match="cannot read the JSON Schema"):
        load_schema(str(tmp_path / "none.json"))
    path.write_text("[1]")
    with pytest.raises(ValueError, match="must be an object"):
        load_schema(str(path))
    path.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        load_schema(str(path))
    with pytest.raises(ValueError, match="the JSON Schema is none, at"):
        SchemaScorer({"type": "objekt"})
