"""Containers: every way a file can be broken, and what is still read from it."""

import gzip
import io
import json
import os
import random
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.ingest import IngestError
from palate.ingest.containers import files, ignored, rows
from palate.ingest.text_rows import Raw, json_rows, jsonl_rows


def _read(path):
    return [(raw.line, raw.value if raw.error is None else raw.error.reason) for raw in rows(path)]


def test_jsonl_goes_on_after_broken_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\n'  # a byte order mark is not part of the row
        b"\n"  # a blank line is no row
        b'{"a": \n'
        b'{"a": "\xff"}\n'
        b"[1, 2]\n"
        b'"text"\n'
        b'{"a": 2}'  # no line end
    )
    assert _read(path) == [
        (1, {"a": 1}),
        (3, "broken-json"),
        (4, "bad-utf8"),
        (5, "not-an-object"),
        (6, "not-an-object"),
        (7, {"a": 2}),
    ]


def test_a_broken_line_keeps_an_excerpt(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"name": "\xff" oops\n')
    (raw,) = rows(path)
    assert raw.excerpt == '{"name": "�" oops'


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000, '{"a": NaNN}'])
def test_hostile_json_is_a_reject_not_a_crash(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{line}\n{{"a": 1}}\n', encoding="utf-8")
    assert _read(path) == [(1, "broken-json"), (2, {"a": 1})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a": 1}, {"a": 2}]', [(1, {"a": 1}), (2, {"a": 2})]),
        ('{"a": 1}', [(1, {"a": 1})]),
        ('{"a": 1}\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),  # JSONL under another name
        (
            '{\n "a": 1\n}\n{\n "a" 2\n}\n{"a": 3}',
            [(1, {"a": 1}), (2, "broken-json"), (3, {"a": 3})],
        ),
        ('[{"a": 1}, {"a": 2', [(1, {"a": 1}), (2, "broken-json")]),
        ('[{"a": 1}', [(1, {"a": 1}), (2, "broken-json")]),  # not closed: cut short
        ('[{"a": 1}, 7]', [(1, {"a": 1}), (2, "not-an-object")]),
        ("[]", []),
        ("", []),
        ("nonsense", [(1, "broken-json")]),
    ],
)
def test_json(tmp_path, text, expected):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    assert _read(path) == expected


def test_bad_utf8_costs_one_row_of_a_json_array(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": "\xe9"}, {"a": "\xc3\xa9"}]')
    assert _read(path) == [(1, "bad-utf8"), (2, {"a": "é"})]


def test_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b"\xef\xbb\xbfprompt,chosen\r\n"
        b'hi,"two\nlines"\r\n'
        b"\r\n"
        b"one cell\r\n"
        b"a,b,c\r\n"
        b'\xff,"b"\r\n'
        b'"a"b,c\r\n'
        b"bye,so long\r\n"
    )
    assert _read(path) == [
        (2, {"prompt": "hi", "chosen": "two\nlines"}),
        (5, "broken-csv"),
        (6, "broken-csv"),
        (7, "bad-utf8"),
        (8, "broken-csv"),
        (9, {"prompt": "bye", "chosen": "so long"}),
    ]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_the_header_tells_the_separator(tmp_path, separator):
    path = tmp_path / "rows.csv"
    path.write_text(f"a{separator}b\n1{separator}2\n", encoding="utf-8")
    assert _read(path) == [(2, {"a": "1", "b": "2"})]


def test_csv_cells_may_be_longer_than_python_allows_by_default(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "x" * 200_000 + ",y\n", encoding="utf-8")
    assert _read(path) == [(2, {"a": "x" * 200_000, "b": "y"})]


def test_two_columns_of_one_name_are_not_merged(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,a\n1,2\n", encoding="utf-8")
    assert _read(path) == [(1, "broken-csv")]


def test_parquet_keeps_structure_and_rows_are_numbered(tmp_path):
    path = tmp_path / "rows.parquet"
    values = [{"messages": [{"role": "user", "content": f"{i}"}], "at": None} for i in range(600)]
    values[1]["at"] = datetime(2026, 1, 2, tzinfo=UTC)
    pq.write_table(pa.Table.from_pylist(values), path)
    got = _read(path)
    assert [line for line, _ in got] == list(range(1, 601))
    assert got[599][1]["messages"] == [{"content": "599", "role": "user"}]


def test_a_file_that_is_no_parquet_ends_in_one_line(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(IngestError, match=r"cannot read .*rows.parquet"):
        list(rows(path))


@pytest.mark.parametrize("name", ["rows.arrow", "rows.feather", "rows"])
@pytest.mark.parametrize("stream", [True, False])
def test_arrow_as_a_file_and_as_a_stream(tmp_path, name, stream):
    values = [{"messages": [{"role": "user", "content": f"{i}"}], "n": i} for i in range(600)]
    table = pa.Table.from_pylist(values)
    writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    path = tmp_path / name
    with writer(str(path), table.schema) as out:
        out.write_table(table, max_chunksize=500)
    if stream and name == "rows":  # a stream has no mark to know it by
        with pytest.raises(IngestError, match="none of the containers"):
            list(rows(path))
        return
    got = _read(path)
    assert [line for line, _ in got] == list(range(1, 601))
    assert got[599][1] == {"messages": [{"content": "599", "role": "user"}], "n": 599}


def test_a_file_that_is_no_arrow_ends_in_one_line(tmp_path):
    path = tmp_path / "rows.arrow"
    path.write_bytes(b"ARROW1\0\0 and then nothing")
    with pytest.raises(IngestError, match=r"cannot read .*rows.arrow after row 0") as caught:
        list(rows(path))
    assert "\n" not in str(caught.value)


COMPRESSED = [
    "rows.jsonl.gz",
    "rows.csv.gz",
    "rows.json.gz",
    "rows.jsonl.zst",
    "rows.json.zst",
    "rows.csv.zst",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed(tmp_path, name):
    path = tmp_path / name
    text = "a\n1\n" if "csv" in name else '{"a": "1"}\n'
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(text.encode())
    assert [value for _, value in _read(path)] == [{"a": "1"}]


def test_a_damaged_archive_keeps_what_came_before(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    # Numbers that do not compress, so that half of the bytes hold about half of the rows.
    numbers = random.Random(0)
    text = "".join(json.dumps({"a": numbers.random()}) + "\n" for _ in range(2_000))
    whole = gzip.compress(text.encode())
    path.write_bytes(whole[: len(whole) // 2])
    got = _read(path)
    assert got[-1][1] == "broken-archive"
    assert len(got) > 500
    assert all(isinstance(value, dict) for _, value in got[:-1])


def test_content_decides_where_the_name_does_not(tmp_path):
    path = tmp_path / "export"
    path.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    assert _read(path) == [(1, {"a": 1}), (2, {"a": 2})]
    path.write_text('[{"a": 1}]', encoding="utf-8")
    assert _read(path) == [(1, {"a": 1})]
    path.write_text("dear diary", encoding="utf-8")
    with pytest.raises(IngestError, match="none of the containers"):
        list(rows(path))


def test_a_folder_gives_its_data_files_in_order(tmp_path):
    for name in ["b.jsonl", "a/z.csv", "README.md", ".cache/x.jsonl", "c.parquet"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in files(tmp_path)]
    assert found == ["a/z.csv", "b.jsonl", "c.parquet"]


def test_nothing_to_read(tmp_path):
    with pytest.raises(IngestError, match="there is no file"):
        files(tmp_path / "absent.jsonl")
    with pytest.raises(IngestError, match="holds no data file"):
        files(tmp_path)


class Counted(io.BytesIO):
    """Bytes that know how many of them were read."""

    taken = 0

    def read(self, size=-1):
        found = super().read(size)
        self.taken += len(found)
        return found

    read1 = read


def test_a_json_array_is_not_read_whole():
    row = json.dumps({"a": "x" * 1_000})
    handle = Counted(("[" + ",\n".join([row] * 20_000) + "]").encode())
    found = json_rows(handle)
    for _ in range(10):
        next(found)
    assert handle.taken < 3 << 20  # of 20 MB
    assert sum(1 for _ in found) == 19_990


def test_rows_that_lie_across_the_border_of_two_reads(monkeypatch):
    """With reads of a few characters every place in the text is a border once."""
    values = [{"a": 'ö\\"[]{},', "b": [1.5e3, -20, True, None]}, {}, {"long": "y" * 99}]
    text = json.dumps(values, ensure_ascii=False, indent=1)
    separate = "\n".join(json.dumps(value) for value in values)
    for chunk in range(1, 40):
        monkeypatch.setattr("palate.ingest.text_rows._CHUNK", chunk)
        for written in (text, separate, f"\ufeff {text}"):
            assert [r.value for r in json_rows(io.BytesIO(written.encode()))] == values


def test_a_broken_row_of_many_is_found_in_small_reads(monkeypatch):
    monkeypatch.setattr("palate.ingest.text_rows._CHUNK", 3)
    text = '{"a": 1}\n{"a" 2, "b": {"c": 1}}\n\n{"a": 3}'
    got = [raw.value or raw.error.reason for raw in json_rows(io.BytesIO(text.encode()))]
    assert got == [{"a": 1}, "broken-json", {"a": 3}]
    (cut,) = [raw for raw in json_rows(io.BytesIO(b'[{"a": "never closed')) if raw.error]
    assert "character 7" in str(cut.error)


def test_a_number_in_place_of_a_row_is_one_row_wherever_it_is_cut(monkeypatch):
    for chunk in range(1, 12):
        monkeypatch.setattr("palate.ingest.text_rows._CHUNK", chunk)
        got = list(json_rows(io.BytesIO(b'[12345, true, {"a": 1}]')))
        reasons = [raw.error.reason if raw.error else raw.value for raw in got]
        assert reasons == ["not-an-object", "not-an-object", {"a": 1}]


def test_numbers_are_what_was_written():
    """Whole numbers of any length, and rows of an array as of lines."""
    text = '{"a": 123456789012345678901234567890, "b": 18446744073709551615, "c": 1e16}'
    lines = list(jsonl_rows(io.BytesIO(text.encode())))
    array = list(json_rows(io.BytesIO(f"[{text}]".encode())))
    assert lines == array
    assert lines[0].value["a"] == 123456789012345678901234567890
    assert not lines[0].plain


def test_streams_do_not_read_ahead(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 10, encoding="utf-8")
    stream = rows(path)
    assert next(stream) == Raw(1, {"a": 1})
    stream.close()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", '{"a": "é\\u2028\u2028"}\r\n{"a": "😀"}\r\n'),
        ("rows.json", '[{"a": "é\\u2028\u2028"}, {"a": "😀"}]'),
        ("rows", '{"a": "é\\u2028\u2028"}\n{"a": "😀"}\n'),
    ],
)
def test_utf_16_is_read_where_its_mark_says_so(tmp_path, encoding, name, text):
    path = tmp_path / name
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + text.encode(encoding))
    expected = [{"a": "é\u2028\u2028"}, {"a": "😀"}]
    assert [value for _, value in _read(path)] == expected
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [value for _, value in _read(packed)] == expected


def test_what_is_broken_in_utf_16_is_said(tmp_path):
    path = tmp_path / "rows.jsonl"
    half = '{"a": "'.encode("utf-16") + b"\x3d\xd8" + '"}\n{"a": 1}\n'.encode("utf-16-le")
    path.write_bytes(half)
    assert _read(path) == [(1, "bad-utf8"), (2, {"a": 1})]
    path.write_bytes(half[:-1])
    with pytest.raises(IngestError, match="is not UTF-16 throughout"):
        list(rows(path))
    table = tmp_path / "rows.csv"
    table.write_bytes("a\tb\n1\té\n".encode("utf-16"))
    assert _read(table) == [(2, {"a": "1", "b": "é"})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Two arrays, as `cat a.json b.json` leaves them, and an object after one.
        ('[{"a": 1}]\n[{"a": 2}]\n', [(1, {"a": 1}), (2, {"a": 2})]),
        ('[{"a": 1}] {"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        ('[{"a": 1}] oops', [(1, {"a": 1}), (2, "broken-json")]),
        ('[{"a": 1}] [{"a": 2}', [(1, {"a": 1}), (2, {"a": 2}), (3, "broken-json")]),
    ],
)
def test_what_follows_an_array_is_not_left_out(tmp_path, text, expected):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    assert _read(path) == expected


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_under_the_name_of_jsonl(tmp_path, indent, mark):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(mark + json.dumps([{"a": 1}, {"a": 2}], indent=indent).encode())
    assert _read(path) == [(1, {"a": 1}), (2, {"a": 2})]
    path.write_bytes(mark + json.dumps({"a": 1}, indent=1).encode())
    assert _read(path) == [(1, {"a": 1})]


def test_times_in_nanoseconds_as_pandas_writes_them(tmp_path):
    path = tmp_path / "rows.parquet"
    stamp = pa.array([1_760_000_000_123_456_789], pa.timestamp("ns", "UTC"))
    nested = pa.StructArray.from_arrays([stamp], ["at"])
    columns = {"at": stamp, "deep": nested, "many": pa.ListArray.from_arrays([0, 1], nested)}
    columns["took"] = pa.array([1_500], pa.duration("ns"))
    pq.write_table(pa.table(columns), path)
    (raw,) = rows(path)
    # 1 760 000 000 s after 1970
    assert raw.value["at"] == datetime(2025, 10, 9, 8, 53, 20, 123_456, tzinfo=UTC)
    assert raw.value["deep"] == {"at": raw.value["at"]}
    assert raw.value["many"] == [{"at": raw.value["at"]}]
    assert raw.value["took"].microseconds == 1


def test_a_time_that_python_does_not_have_ends_in_one_line(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"at": pa.array([9 * 10**18], pa.timestamp("us"))}), path)
    with pytest.raises(IngestError, match=r"cannot read .* after row 0"):
        list(rows(path))


def test_what_packs_itself_is_not_packed_again(tmp_path):
    path = tmp_path / "rows.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(IngestError, match=r"packs itself: unpack it, as rows\.parquet$"):
        list(rows(path))


def test_an_open_quotation_mark_is_said_to_be_one(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,2\n"3,4\n5,6\n', encoding="utf-8")
    good, bad = rows(path)
    assert good.value == {"a": "1", "b": "2"}
    assert (bad.line, "never closed" in str(bad.error)) == (3, True)


def test_links_in_a_folder_are_followed_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jsonl").write_text("{}\n")
    (tmp_path / "data" / "a.jsonl").write_text("{}\n")
    (tmp_path / "data" / "in").symlink_to("../elsewhere")
    (tmp_path / "data" / "circle").symlink_to("../data")
    (tmp_path / "data" / "nowhere.jsonl").symlink_to("absent")
    (tmp_path / "data" / "c.bz2").write_bytes(b"BZh")
    folder = tmp_path / "data"
    found = files(folder)
    assert found == [folder / "a.jsonl", folder / "in" / "b.jsonl", folder / "nowhere.jsonl"]
    assert ignored(folder) == [folder / "c.bz2"]
    assert ignored(folder / "a.jsonl") == []
    with pytest.raises(IngestError, match=r"cannot read .*nowhere.jsonl"):
        list(rows(found[2]))


def test_a_folder_that_cannot_be_looked_into_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "shut").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(IngestError, match=r"cannot read .*shut: Permission denied"):
        files(tmp_path)


def test_an_error_of_several_lines_becomes_one(tmp_path, monkeypatch):
    def broken(path, kind):
        raise OSError("Couldn't deserialize thrift: Invalid data\nDeserializing failed.\n")

    monkeypatch.setattr("palate.ingest.containers.table_rows", broken)
    with pytest.raises(IngestError, match=r"thrift: Invalid data Deserializing failed\.$"):
        list(rows(tmp_path / "rows.parquet"))
