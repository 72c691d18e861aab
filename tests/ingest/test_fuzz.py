"""Malformed rows of every kind: no crash, and each row is an example or a reject."""

import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ingest.mutation import broken_line

from palate.ingest import FORMATS, read_arrivals, read_examples
from palate.ingest.errors import IngestError
from palate.records import Example, Signal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)  # with lone surrogates and NUL
    | st.sampled_from(["", "up", "Hi", '[{"role": "user"}]', "{", "\\ud83d", "\n\nHuman: a"])
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "x", "", None, 3])
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": ROLES,
        "from": ROLES,
        "content": SCALARS,
        "value": SCALARS,
        "tool_calls": SCALARS,
        "refusal": SCALARS,
    },
)
JUNK = st.recursive(
    SCALARS | MESSAGES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["messages", "index", "type", "text", "body"]), inner)
    ),
    max_leaves=6,
)
NAMES = sorted({field for known in FORMATS.values() for field in known.fields} | {"tools", "error"})
USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello"}
SOUND = [
    {"messages": [USER], "choices": [{"index": 0, "message": GOOD}], "feedback": "up"},
    {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": "No"},
    {"conversations": [{"from": "human", "value": "Hi"}], "chosen": GOOD, "rejected": "No"},
    {"prompt": "Hi", "chosen": "a", "rejected": "b"},
    {"chosen": [USER, GOOD], "rejected": [USER, {**GOOD, "content": "No"}]},
    {"messages": [USER, GOOD]},
]
BROKEN = st.dictionaries(
    st.sampled_from(NAMES), JUNK | st.lists(MESSAGES, max_size=3), min_size=1, max_size=2
)
ROWS = st.builds(lambda sound, broken: {**sound, **broken}, st.sampled_from([{}, *SOUND]), BROKEN)
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def _read(path, format_name):
    rejects = []
    examples = []
    try:
        for example in read_examples(path, format_name, rejects.append):
            examples.append(example)  # noqa: PERF402 - kept even if reading ends in an error
    except IngestError as error:
        return examples, rejects, str(error)
    return examples, rejects, ""


@FUZZ
@given(rows=st.lists(ROWS, min_size=1, max_size=8), name=st.sampled_from(sorted(FORMATS)))
def test_malformed_rows(rows, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        examples, rejects, stopped = _read(path, name)
        _read(path, "auto")
    assert "\n" not in stopped
    assert bool(stopped) == (not examples)
    lines = [example.provenance[0].line for example in examples] + [r.line for r in rejects]
    assert sorted(lines) == list(range(1, len(rows) + 1))
    for example in examples:
        stored = json.dumps(example.to_dict()).encode()
        assert Example.from_dict(json.loads(stored)).id == example.id
        json.dumps(example.to_dict(), ensure_ascii=False).encode()  # no half surrogates
    for reject in rejects:
        json.dumps(reject.to_dict(), ensure_ascii=False).encode()


@FUZZ
@given(
    content=st.binary(max_size=200),
    good=st.integers(0, 3),
    name=st.sampled_from(["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz", "rows"]),
)
def test_any_bytes_under_any_name(content, good, name):
    row = b'{"prompt": "Hi", "chosen": "a", "rejected": "b"}\n'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(row * good + content)
        examples, _, stopped = _read(path, "auto")
    assert "\n" not in stopped
    if name == "rows.jsonl":
        assert len(examples) >= good - 1  # the last good line may be continued by the bytes


LINES, FILES = 25, 400  # 10,000 broken rows in all


@settings(FUZZ, max_examples=FILES)
@given(
    seeds=st.lists(st.integers(0, 2**32), min_size=LINES, max_size=LINES),
    name=st.sampled_from(sorted(FORMATS)),
    sniffed=st.booleans(),
)
def test_broken_fixtures(seeds, name, sniffed):
    """No crash, and each row is accounted for: by its records, or by exactly one reject."""
    rejects, arrivals, stopped = [], [], ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(b"".join(broken_line(seed, name) + b"\n" for seed in seeds))
        try:
            for arrival in read_arrivals(path, "auto" if sniffed else name, rejects.append):
                arrivals.append(arrival)  # noqa: PERF402 - kept even if reading ends in an error
        except IngestError as error:
            stopped = str(error)
    assert "\n" not in stopped
    if stopped and sniffed and not rejects:
        return  # nothing in the file could be recognised
    assert bool(stopped) == (not arrivals)
    _check_records(arrivals)
    taken = {arrival.record.provenance[0].line for arrival in arrivals}
    refused = [reject.line for reject in rejects]
    if name != "opentelemetry":  # a line of which may hold several spans
        assert len(refused) == len(set(refused))
        assert not taken & set(refused)
    if not (stopped and sniffed):
        assert taken | set(refused) == set(range(1, LINES + 1))
    for reject in rejects:
        json.dumps(reject.to_dict(), ensure_ascii=False).encode()


def _check_records(arrivals):
    """They can be stored, as can their ids; and a row with ids is one interaction."""
    examples = {}
    for arrival in arrivals:
        record = arrival.record
        where = record.provenance[0]
        stored = json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False).encode()
        if isinstance(record, Signal):
            assert record.about, "a signal that speaks about nothing"
            assert Signal.from_dict(json.loads(stored)).to_dict() == record.to_dict()
            continue
        assert Example.from_dict(json.loads(stored)).id == record.id
        assert all(":" in name and len(name) < 300 for name in arrival.ids)
        if arrival.ids and arrival.ids[0].partition(":")[0] != "otel":
            examples[where.line] = examples.get(where.line, 0) + 1
    assert set(examples.values()) <= {1}
