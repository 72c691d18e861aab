"""The recorder in this process: what it writes, what it answers, and in which order."""

from __future__ import annotations

import errno
import io
import json
import os

import pytest
from tests.web.capture.conftest import until
from tests.web.capture.upstream import answer

from palate.web.capture.frames import END, Frame, pack
from palate.web.capture.recorder import REJECTS, Recorder, record
from palate.web.capture.settings import CaptureConfig


class Sink:
    def __init__(self):
        self.taken = []

    def add(self, arrivals, source_name):
        self.taken += arrivals

    def expire(self, days):
        return 0

    def close(self):
        pass


class Bench:
    def __init__(self, folder, **settings):
        self.config = CaptureConfig(
            upstream="http://127.0.0.1:1/v1", spill=str(folder / "spill"), drain=5, **settings
        )
        self.answers, self.order, self.sink = [], [], Sink()
        self.recorder = Recorder(self.config, lambda: self.sink, self.answer)
        append = self.recorder._journal.append
        self.refuse = False

        def traced(lines):
            if self.refuse:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(lines)
            self.order.append("written")

        self.recorder._journal.append = traced

    def answer(self, **said):
        self.answers.append(json.loads(json.dumps(said)))
        self.order.append(f"done {said['done']}")

    def take(self, *frames):
        self.recorder.take(list(frames))
        return self.answers[-1]


def exchange(text, conversation=None, body=None):
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    response = body or json.dumps(answer(f"chatcmpl-{text}", text)).encode()
    meta = {
        "kind": "exchange",
        "time": 1.0,
        "request_encoding": "",
        "response_encoding": "",
        "type": "application/json",
        "conversation": conversation,
        "user": None,
        "keys": ["sk-0123456789"],
    }
    return Frame(meta, json.dumps(request).encode(), response)


def thumb(name):
    row = {"feedback": {"id": name, "rating": "up"}, "feedback_id": "fb-1", "time": "2024-05-01"}
    return Frame({"kind": "feedback", "row": row, "keys": []})


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_it_answers_when_all_is_on_the_disk_and_not_before(bench):
    said = bench.take(exchange("first01"), thumb("chatcmpl-first01"), exchange("second2"))
    assert bench.order == ["written", "done 3"]
    assert (said["done"], said["lost"], said["spilled"]) == (3, [], 3)


def test_what_cannot_be_written_is_named_and_counted(bench):
    bench.take(exchange("first01"))
    bench.refuse = True
    said = bench.take(exchange("broken", body=b"no JSON"), exchange("second2"), thumb("chatcmpl-x"))
    # Of the frames 2, 3 and 4 the first was of no use, so that nothing of it was lost.
    assert (said["done"], said["lost"]) == (4, [3, 4])
    assert (said["counts"]["lost"], said["rejected"]) == (2, {"broken-json": 1})
    bench.refuse = False
    assert bench.take(exchange("third03"))["lost"] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no JSON", "broken-json"),
        (b'{"choices": [7]}', "wrong-type"),
        (b'{"choices": [{"message": {"role": "assistant", "content": ""}}]}', "empty-answer"),
        (b"[" * 100_000, "broken-json"),
        (b"\xff", "bad-utf8"),
    ],
)
def test_what_is_of_no_use_is_listed_without_its_text(body, reason, bench):
    said = bench.take(exchange("x", body=body))
    assert (said["rejected"], said["spilled"]) == ({reason: 1}, 0)
    (line,) = (bench.recorder._folder / REJECTS).read_text().splitlines()
    row = json.loads(line)
    assert (row["source"], row["reason"], row["excerpt"]) == ("capture:127.0.0.1:1", reason, "")


@pytest.mark.parametrize(
    "change",
    [{"request_encoding": 7}, {"type": None}, {"time": "late"}, {"keys": None}],
)
def test_a_frame_that_is_none_stops_nothing(change, bench):
    odd = exchange("x")
    said = bench.take(Frame({**odd.meta, **change}, odd.request, odd.response), exchange("good01"))
    assert sum(said["rejected"].values()) + said["spilled"] == 2
    assert said["spilled"] >= 1


def test_conversations_are_left_out_before_they_reach_the_disk(tmp_path):
    bench = Bench(tmp_path, sample=0.0)
    said = bench.take(exchange("first01"), thumb("chatcmpl-first01"))
    assert (said["counts"]["sampled_out"], said["spilled"]) == (1, 1)


def test_a_whole_life_over_a_pipe(tmp_path):
    config = CaptureConfig(upstream="http://127.0.0.1:1", spill=str(tmp_path / "spill"), drain=5)
    first = Frame({"config": config.model_dump(mode="json"), "singly": 2})
    frames = [
        first,
        exchange("first01"),
        exchange("second2"),
        exchange("third03"),
        Frame({"kind": END}),
    ]
    into, out = os.pipe()
    answers, sink = io.BytesIO(), Sink()
    with os.fdopen(out, "wb") as pipe:
        pipe.write(b"".join(map(pack, frames)))
    assert record(into, answers, lambda _: sink) == 0
    os.close(into)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0]["ready"] is True
    singly = [line["done"] for line in said]
    assert sorted(singly) == singly
    assert {1, 2, 3} <= set(singly)
    assert (said[-1]["spilled"], said[-1]["counts"]["stored"]) == (0, 3)
    assert [arrival.ids for arrival in sink.taken] == [
        ("openai:chatcmpl-first01",),
        ("openai:chatcmpl-second2",),
        ("openai:chatcmpl-third03",),
    ]


def test_settings_that_do_not_work_are_answered(tmp_path):
    config = CaptureConfig(upstream="http://a", spill=str(tmp_path / "s"), redact="nothing:f")
    into, out = os.pipe()
    with os.fdopen(out, "wb") as pipe:
        pipe.write(pack(Frame({"config": config.model_dump(mode="json"), "singly": 0})))
    answers = io.BytesIO()
    assert record(into, answers) == 2
    os.close(into)
    assert "cannot load nothing" in json.loads(answers.getvalue())["error"]


def test_a_broken_answer_pipe_does_not_stop_it(tmp_path):
    """The proxy was killed: what is in the pipe is written down all the same."""

    class Broken(io.BytesIO):
        def flush(self):
            raise BrokenPipeError

    config = CaptureConfig(upstream="http://a", spill=str(tmp_path / "spill"))
    sink = Sink()
    into, out = os.pipe()
    first = Frame({"config": config.model_dump(mode="json"), "singly": 0})
    with os.fdopen(out, "wb") as pipe:
        pipe.write(pack(first) + pack(exchange("first01")))
    assert record(into, Broken(), lambda _: sink) == 0
    os.close(into)
    until(lambda: len(sink.taken) == 1)
