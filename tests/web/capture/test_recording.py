"""The program as a process: nothing lost, nothing twice, no key kept, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.web.capture.conftest import WITH_SINK, Program, until
from tests.web.capture.sink import stored
from tests.web.capture.upstream import Asked, Provider, answer, piece, start

from palate.cli.capturing import run_capture
from palate.config import ConfigError
from palate.store.database import Store

pytestmark = pytest.mark.slow

Start = Callable[..., Program]
KEY = "sk-planted-4f9a2b7c61"


def said(folder: Path) -> list[str]:
    """The users' words that the sink has taken, in its order."""
    rows: list[Any] = stored(folder)
    return [row["example"]["prompt"][0]["content"] for row in rows if "example" in row]


def test_a_sink_that_blocks_delays_nothing(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK)
    (proxy.folder / "block").touch()
    taken = []
    for number in range(30):
        began = time.perf_counter()
        assert proxy.say(f"word {number}").status_code == 200
        taken.append(time.perf_counter() - began)
    assert sorted(taken)[15] < 1.0  # the sink waits for good: a request that waited would hang
    assert until(lambda: proxy.health()["spilled"] == 30)
    (proxy.folder / "block").unlink()
    until(lambda: len(said(proxy.folder)) == 30)
    assert said(proxy.folder) == [f"word {number}" for number in range(30)]
    until(lambda: proxy.health()["spilled"] == 0)
    counts = proxy.stop()
    assert (counts["captured"], counts["stored"], counts["lost"]) == (30, 30, 0)


def test_a_sink_that_fails_gets_all_of_it_once_it_works(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK)
    proxy.say("before")
    until(lambda: said(proxy.folder) == ["before"])
    (proxy.folder / "fail").touch()
    for number in range(10):
        proxy.say(f"word {number}")
    until(lambda: "fails as it was told" in proxy.health()["store"])
    until(lambda: proxy.health()["spilled"] == 10)
    (proxy.folder / "fail").unlink()
    until(lambda: len(said(proxy.folder)) == 11)
    assert said(proxy.folder)[1:] == [f"word {number}" for number in range(10)]
    until(lambda: proxy.health()["store"] == "ok")
    assert proxy.said().count("does not take captures") == 1


def test_what_waits_at_the_end_is_stored_at_the_next_start(
    program: Start, provider: Provider
) -> None:
    first = program(provider.url, WITH_SINK)
    (first.folder / "fail").touch()
    first.say("one")
    first.say("two")
    until(lambda: first.health()["spilled"] == 2)
    counts = first.stop()
    assert (counts["spilled"], counts["stored"]) == (2, 0)
    (first.folder / "fail").unlink()
    second = program(provider.url, WITH_SINK)
    until(lambda: said(second.folder) == ["one", "two"])


@pytest.mark.parametrize("whom", ["proxy", "recorder", "both"])
def test_kill_9_loses_nothing_that_was_accepted(
    whom: str, program: Start, provider: Provider
) -> None:
    proxy = program(provider.url, WITH_SINK)
    (proxy.folder / "block").touch()
    for number in range(5):
        proxy.say(f"word {number}")
    reply = proxy.client.post("/v1/feedback", json={"id": "chatcmpl-about-word-3", "again": True})
    assert reply.status_code == 202
    # At this point all is on the disk: feedback is acknowledged after what came before it.
    if whom != "proxy":
        os.kill(_recorder(proxy), signal.SIGKILL)
    if whom != "recorder":
        proxy.kill()
        proxy = program(provider.url, WITH_SINK)
    (proxy.folder / "block").unlink()
    until(lambda: len(stored(proxy.folder)) == 6)
    proxy.say("after")
    until(lambda: said(proxy.folder) == [*(f"word {number}" for number in range(5)), "after"])
    time.sleep(0.3)
    assert len(stored(proxy.folder)) == 7  # and none twice
    (signalled,) = [row for row in stored(proxy.folder) if "about" in row]
    assert signalled["about"] == ["openai:chatcmpl-about-word-3"]


def test_a_recorder_that_dies_is_started_again_and_gets_what_it_had_not_done(
    program: Start, provider: Provider
) -> None:
    proxy = program(provider.url, WITH_SINK)
    for number in range(40):
        if number % 10 == 5:
            os.kill(_recorder(proxy), signal.SIGKILL)  # often while it starts
        assert proxy.say(f"word {number}").status_code == 200
    until(lambda: len(set(said(proxy.folder))) == 40)
    assert "the recorder died" in proxy.said()
    assert proxy.health()["lost"] == 0


def test_the_end_while_the_recorder_is_away_stores_all_the_same(
    program: Start, provider: Provider
) -> None:
    proxy = program(provider.url, WITH_SINK)
    os.kill(_recorder(proxy), signal.SIGKILL)
    until(lambda: "the recorder died" in proxy.said())
    assert proxy.say("late").status_code == 200
    counts = proxy.stop()
    assert (counts["stored"], counts["lost"]) == (1, 0)
    assert said(proxy.folder) == ["late"]


def test_an_exchange_that_kills_the_recorder_is_given_up(
    program: Start, provider: Provider
) -> None:
    house = Path(__file__).parent / "redacting.py"
    proxy = program(provider.url, WITH_SINK, redact=f"{house}:deadly")
    for text in ("before", "poison", "after"):
        assert proxy.say(text).status_code == 200
    until(lambda: said(proxy.folder) == ["before", "after"])
    until(lambda: proxy.health()["queued"] == 0)
    health = proxy.health()
    assert (health["captured"], health["lost"]) == (3, 1)
    assert 3 <= proxy.said().count("the recorder died") <= 4  # the first may be of all three


def test_a_full_queue_loses_captures_and_counts_them(program: Start, provider: Provider) -> None:
    """The recorder is stopped: the pipe fills, then the queue, and traffic goes on."""
    proxy = program(provider.url, WITH_SINK, queue=1)
    recorder = _recorder(proxy)
    os.kill(recorder, signal.SIGSTOP)
    for _ in range(30):
        assert proxy.say("x" * 100_000).status_code == 200
    health = proxy.health()
    assert health["captured"] == 30
    assert health["queued"] + health["lost"] == 30
    assert 0 < health["queued"] < 10
    os.kill(recorder, signal.SIGCONT)
    until(lambda: proxy.health()["stored"] == health["queued"])
    assert proxy.say("there is room again").status_code == 200
    until(lambda: proxy.health()["stored"] == health["queued"] + 1)
    assert proxy.said().count("captures are lost") == 1
    assert f"{health['lost']} captures were lost" in proxy.said()


@pytest.mark.parametrize("how", ["disk", "disk and log"])
def test_a_full_disk_loses_captures_and_counts_them(
    how: str, program: Start, provider: Provider
) -> None:
    proxy = program(provider.url, _limited(DISKS[how]))
    assert proxy.say("x").status_code == 200
    until(lambda: proxy.health()["lost"] == 1)
    reply = proxy.client.post("/v1/feedback", json={"id": "chatcmpl-about-x", "rating": "up"})
    assert reply.status_code == 503
    for _ in range(5):
        assert proxy.say("y").status_code == 200
    until(lambda: proxy.health()["lost"] == 7)
    assert "died" not in proxy.said()
    if how == "disk":
        assert proxy.said().count("captures are lost") == 1
        assert "No space left on device" in proxy.said()


DISKS = {
    "disk": """
import errno
from palate.web.capture import journal
def full(handle, data):
    raise OSError(errno.ENOSPC, "No space left on device")
journal._write = full
""",
    # No file may grow beyond 16 bytes, which the log has reached already.
    "disk and log": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))",
}


def _limited(code: str) -> str:
    """The program with a recorder that runs `code` before anything else."""
    code += "\nimport runpy; runpy.run_module('tests.web.capture.sink', run_name='__main__')"
    return WITH_SINK.replace('"-m", "tests.web.capture.sink"', f'"-c", {code!r}')


def test_no_key_is_stored_or_logged(program: Start, provider: Provider) -> None:
    async def respond(asked: Asked, send: Any) -> None:
        text = f"your key is {KEY}, and the header was {asked.header('authorization')}"
        body = json.dumps(answer("chatcmpl-planted1", text)).encode()
        await start(send, content_length=str(len(body)))
        await piece(send, body, last=True)

    provider.respond = respond
    proxy = program(provider.url)
    headers = {
        "Authorization": f"Bearer {KEY}",
        "api-key": KEY,
        "x-api-key": KEY,
        "Cookie": f"a=b; session={KEY}",
        "x-goog-api-key": KEY,
    }
    body = {
        "model": "small-1",
        "api_key": KEY,
        "messages": [{"role": "user", "content": f"is {KEY} my key?"}],
        "metadata": {"note": KEY},
    }
    where = f"/v1/chat/completions?key={KEY}&api-version=1"
    found = proxy.client.post(where, json=body, headers=headers)
    assert KEY in found.text  # it passes
    assert provider.asked[0].header("api-key") == KEY
    assert KEY.encode() in provider.asked[0].query
    feedback = {"id": "chatcmpl-planted1", "rating": "up", "comment": f"key {KEY}"}
    assert proxy.client.post("/v1/feedback", json=feedback, headers=headers).status_code == 202
    proxy.client.post("/v1/feedback", content=KEY.encode(), headers=headers)
    proxy.client.get(f"/v1/{KEY}/models", headers=headers)
    proxy.client.post(where, content=b"no JSON " + KEY.encode(), headers=headers)
    until(lambda: proxy.health()["stored"] == 2)
    health = proxy.client.get("/palate/health").text
    proxy.stop()
    texts = {path: path.read_bytes() for path in proxy.folder.rglob("*") if path.is_file()}
    assert any(path.name == "palate.db" for path in texts)
    held = [path.name for path, text in texts.items() if KEY.encode() in text]
    assert not held
    assert KEY not in health
    assert KEY not in proxy.said()
    database = b"".join(text for path, text in texts.items() if path.name.startswith("palate.db"))
    assert b"[key]" in database  # the words around it were stored


def test_no_key_reaches_the_spill_folder(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK)
    (proxy.folder / "block").touch()
    headers = {"Authorization": f"Bearer {KEY}"}
    for text in ("first", f"is {KEY} my key?"):
        body = {"messages": [{"role": "user", "content": text}]}
        proxy.client.post("/v1/chat/completions", json=body, headers=headers)
    until(lambda: proxy.health()["spilled"] == 2)
    spilled = b"".join(p.read_bytes() for p in (proxy.folder / "spill").glob("*.jsonl"))
    assert b"[key]" in spilled
    assert KEY.encode() not in spilled


def test_words_are_redacted_before_they_reach_a_disk(program: Start, provider: Provider) -> None:
    house = Path(__file__).parent / "redacting.py"
    proxy = program(provider.url, WITH_SINK, redact=f"{house}:shield")
    (proxy.folder / "block").touch()
    proxy.say("I am Anna")
    feedback = {"id": "chatcmpl-about-x", "edit": "Dear Anna"}
    assert proxy.client.post("/v1/feedback", json=feedback).status_code == 202
    proxy.say("explode")
    until(lambda: proxy.health()["rejected"] == {"redaction-failed": 1})
    spilled = b"".join(p.read_bytes() for p in (proxy.folder / "spill").glob("*"))
    assert b"Anna" not in spilled
    assert spilled.count(b"<NAME>") == 3  # the question, the answer that repeats it, the edit
    assert b"explode" not in spilled


def test_a_redaction_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    settings = {"upstream": "http://127.0.0.1:9/v1", "port": 0, "redact": "nothing_here:f"}
    settings |= {"spill": str(tmp_path / "spill"), "db": str(tmp_path / "palate.db")}
    with pytest.raises(ConfigError, match="redact: cannot load nothing_here"):
        run_capture(None, [], settings, as_json=False)


def test_a_share_of_conversations_is_kept_whole(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK, sample=0.5)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for conversation in range(20):
        for _ in range(2):
            headers = {"x-session-id": f"c{conversation}"}
            proxy.client.post("/v1/chat/completions", json=body, headers=headers)
    until(lambda: sum(proxy.health()[name] for name in ("stored", "sampled_out")) == 40)
    # The same answer twice in one conversation is one row to this sink: tags tell conversations.
    rows: list[Any] = stored(proxy.folder)
    kept = {row["tags"]["conversation_id"] for row in rows}
    counts = proxy.stop()
    assert counts["stored"] == 2 * len(kept)
    assert 2 <= len(kept) <= 18  # binomial, 20 draws at 0.5: outside with a chance of 4e-5


def test_time_order_user_and_conversation_are_kept(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK)
    headers = {"x-session-id": "c1", "x-user-id": "anna"}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    proxy.client.post("/v1/chat/completions", json=body, headers=headers)
    more = {"user": "berta", "metadata": {"conversation_id": "c2"}}
    proxy.say("hello", **more)
    rows: list[Any] = until(lambda: len(rows := stored(proxy.folder)) == 2 and rows)
    assert [row["user"] for row in rows] == ["anna", "berta"]
    assert [row["tags"]["conversation_id"] for row in rows] == ["c1", "c2"]
    assert [row["ids"] for row in rows] == [
        ["openai:chatcmpl-about-hi"],
        ["openai:chatcmpl-about-hello"],
    ]
    assert {row["source"] for row in rows} == {f"capture:127.0.0.1:{provider.port}"}


def test_content_is_expired(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK, retention_days=7)
    until((proxy.folder / "expired").exists)
    assert (proxy.folder / "expired").read_text() == "7.0"


def test_captured_into_the_real_store_and_imported_again(
    program: Start, provider: Provider
) -> None:
    """End to end: capture, feedback, an import of the same log, and the store's own view."""
    proxy = program(provider.url)
    for text in ("one", "two"):
        proxy.say(text)
    with proxy.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "three"}], "stream": True},
    ) as found:
        found.read()
    feedback = {"id": "chatcmpl-about-two", "rating": "down", "edit": "Better.", "user": "anna"}
    assert proxy.client.post("/v1/feedback", json=feedback).status_code == 202
    early = {"id": "chatcmpl-about-four", "rating": "up"}
    assert proxy.client.post("/v1/feedback", json=early).status_code == 202
    proxy.say("four")
    counts = proxy.stop()
    assert (counts["stored"], counts["spilled"], counts["lost"]) == (6, 0, 0)

    log = proxy.folder / "log.jsonl"
    rows = [
        {
            "request": {"messages": [{"role": "user", "content": text}]},
            "response": answer(f"chatcmpl-about-{text}", f"You said {text}"),
        }
        for text in ("one", "two", "three", "four")
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from palate.ingest import read_arrivals

    with Store.open(proxy.folder / "palate.db", create=False) as store:
        added = store.add(list(read_arrivals(log)), str(log))
        assert (added.new, added.known, added.events) == (0, 4, 0)
        with store.reading() as connection:
            events = connection.exec_driver_sql(
                "SELECT e.kind, n.name FROM event e JOIN name n ON n.interaction = e.interaction"
            ).fetchall()
    assert sorted(map(tuple, events)) == [
        ("edit", "openai:chatcmpl-about-two"),
        ("thumb", "openai:chatcmpl-about-four"),
        ("thumb", "openai:chatcmpl-about-two"),
    ]


def test_feedback_that_is_refused_says_why(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK)
    post = proxy.client.post
    refused = post("/v1/feedback", json={"id": "chatcmpl-about-x", "rating": "meh"})
    assert refused.status_code == 400
    assert "neither up nor down" in refused.json()["error"]["message"]
    assert post("/v1/feedback", content=b"x" * (2**20 + 1)).status_code == 413
    assert proxy.client.get("/v1/feedback").status_code == 405
    assert proxy.client.post("/palate/health").status_code == 405
    assert not provider.asked  # none of it is passed on
    again = {"Idempotency-Key": "k1"}
    said = {"id": "chatcmpl-about-x", "rating": "up"}
    names = {post("/v1/feedback", json=said, headers=again).json()["feedback_id"] for _ in "ab"}
    assert len(names) == 1
    other = post("/v1/feedback", json=said).json()
    assert other["status"] == "accepted"
    assert other["feedback_id"] not in names


def test_two_proxies_do_not_share_a_spill_folder(
    program: Start, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(provider.url, WITH_SINK)
    with pytest.raises(AssertionError, match="another capture uses"):
        program(provider.url, WITH_SINK)


def test_a_port_that_is_taken_is_one_line(program: Start, provider: Provider) -> None:
    with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{provider.port}"):
        program(provider.url, WITH_SINK, port=provider.port)


def test_an_address_that_others_reach_is_warned_of(program: Start, provider: Provider) -> None:
    proxy = program(provider.url, WITH_SINK, host="0.0.0.0")  # noqa: S104 - that is the point
    assert "warning: 0.0.0.0 can be reached from outside" in until(proxy.said)
    quiet = program(provider.url, WITH_SINK, spill=str(proxy.folder / "other"))
    assert "warning" not in quiet.said()


def _recorder(proxy: Program) -> int:
    """The process id of the proxy's recorder."""

    def children() -> list[str]:
        tasks = Path(f"/proc/{proxy.process.pid}/task").iterdir()
        return [pid for task in tasks for pid in (task / "children").read_text().split()]

    (child,) = until(children, "the start of a recorder")
    return int(child)
