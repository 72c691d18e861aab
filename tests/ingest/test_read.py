"""Reading: every row is an example or a reject, with the place it came from."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.ingest import IngestError, read_examples
from palate.records import digest


def _pair(prompt, chosen="good", rejected="bad"):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _write(path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _read(paths, **options):
    rejects = []
    examples = list(read_examples(paths, on_reject=rejects.append, **options))
    return examples, rejects


def test_every_row_is_counted_once(tmp_path):
    rows = [
        _pair("one"),
        "{broken",
        _pair("two", chosen=""),
        {"prompt": "three"},
        _pair("four", chosen="bad"),
        _pair("five", chosen=5),
        '{"prompt": "\\ud83d", "chosen": "a", "rejected": "b"}',
        _pair("nul \0 is text"),
    ]
    path = _write(tmp_path / "rows.jsonl", rows)
    examples, rejects = _read(path)
    assert [e.prompt[0].content for e in examples] == ["one", "nul \0 is text"]
    assert [(r.line, r.reason) for r in rejects] == [
        (2, "broken-json"),
        (7, "bad-unicode"),
        (3, "empty-answer"),
        (4, "missing-field"),
        (5, "equal-answers"),
        (6, "wrong-type"),
    ]
    assert all(reject.source == str(path) and reject.detail for reject in rejects)


def test_more_rows_than_are_sniffed(tmp_path):
    path = _write(tmp_path / "rows.jsonl", [_pair(f"prompt {i}") for i in range(100)])
    examples, rejects = _read(path)
    assert [e.provenance[0].line for e in examples] == list(range(1, 101))
    assert not rejects


def test_provenance(tmp_path):
    row = {
        "messages": [{"role": "user", "content": "Hi"}],
        "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
        "created": 0,
    }
    path = _write(tmp_path / "log.jsonl", [row])
    (example,), _ = _read(str(path))
    (where,) = example.provenance
    assert (where.source, where.line, where.time) == (str(path), 1, "1970-01-01T00:00:00+00:00")
    assert where.hash == digest(row)


def test_the_same_pairs_from_every_container(tmp_path):
    rows = [_pair("one"), _pair("two", chosen='very, "very"\ngood')]
    _write(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    (tmp_path / "d.csv").write_text(
        'prompt,chosen,rejected\none,good,bad\ntwo,"very, ""very""\ngood",bad\n', encoding="utf-8"
    )
    examples, rejects = _read(tmp_path)
    assert not rejects
    ids = [example.id for example in examples]
    assert ids == ids[:2] * 4
    assert len(set(ids)) == 2


def test_each_file_is_sniffed_on_its_own(tmp_path):
    _write(tmp_path / "a.jsonl", [_pair("one")])
    _write(tmp_path / "b.jsonl", [{"instruction": "two", "chosen": "a", "rejected": "b"}])
    _write(tmp_path / "c.jsonl", [{"words": "neither"}])
    examples, rejects = _read(tmp_path)
    assert [e.prompt[0].content for e in examples] == ["one", "two"]
    assert [(r.source, r.reason) for r in rejects] == [
        (str(tmp_path / "c.jsonl"), "unknown-format")
    ]


def test_a_named_format_is_not_sniffed(tmp_path):
    path = _write(tmp_path / "a.jsonl", [_pair("one"), {"text": "no"}])
    examples, rejects = _read(path, format="trl")
    assert len(examples) == 1
    assert [r.reason for r in rejects] == ["missing-field"]


def test_times_and_bytes_of_parquet_are_plain_values(tmp_path):
    row = {**_pair(b"bytes"), "at": pa.scalar(0, pa.timestamp("s")).as_py(), "price": None}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (example,), _ = _read(tmp_path / "a.parquet")
    assert example.prompt[0].content == "bytes"
    assert example.tags == {"at": "1970-01-01T00:00:00"}


def test_bytes_that_are_not_utf8_are_rejected(tmp_path):
    rows = [_pair(b"\xff"), _pair(b"fine")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    examples, rejects = _read(tmp_path / "a.parquet")
    assert len(examples) == 1
    assert [(r.line, r.reason) for r in rejects] == [(1, "bad-utf8")]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no usable row in .*there is no row at all"),
        (["{broken", "{broken", '"text"'], "broken-json 2, not-an-object 1 .first at line 1"),
        ([_pair("one", chosen="")], "empty-answer 1"),
        ([{"words": "a"}], "matches no format: it has the fields words"),
    ],
)
def test_no_usable_row_is_one_line(tmp_path, rows, said):
    path = _write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(IngestError, match=said) as caught:
        _read(path)
    assert "\n" not in str(caught.value)


def test_what_stops_is_said_before_anything_is_read(tmp_path):
    with pytest.raises(IngestError, match="there is no file"):
        read_examples(tmp_path / "absent.jsonl")
    with pytest.raises(IngestError, match="did you mean 'trl'"):
        read_examples(tmp_path, format="trll")
    with pytest.raises(IngestError, match="at least one path"):
        read_examples([])


def test_errors_are_value_errors():
    assert issubclass(IngestError, ValueError)


def test_a_number_that_no_float_holds_is_refused_where_it_matters(tmp_path):
    """The largest float has 309 digits; the store's reader stops at larger ones."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"maximum": "LIMIT"}}}
    row = json.dumps({**_pair("one"), "tools": [tool]})
    rows = [row.replace('"LIMIT"', limit) for limit in ("7" * 310, "1" * 309, "7")]
    aside = json.dumps({**_pair("two"), "note": 1}).replace('"note": 1', f'"note": {"7" * 400}')
    examples, rejects = _read(_write(tmp_path / "rows.jsonl", [*rows, aside]))
    assert [(r.line, r.reason) for r in rejects] == [(1, "bad-number")]
    assert [e.provenance[0].line for e in examples] == [2, 3, 4]
