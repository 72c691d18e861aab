"""What passes through the proxy, over real sockets, is what would have passed without it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.web.capture.conftest import WITH_SINK, Program, until
from tests.web.capture.sink import stored
from tests.web.capture.upstream import DONE, Asked, Provider, answer, chat, chunk, piece, start

pytestmark = pytest.mark.slow


class Switch:
    """A provider whose answer each test chooses."""

    def __init__(self) -> None:
        self.respond: Any = chat

    async def __call__(self, asked: Asked, send: Any) -> None:
        await self.respond(asked, send)


@pytest.fixture(scope="module")
def switch() -> Switch:
    return Switch()


@pytest.fixture(scope="module")
def up(switch: Switch) -> Iterator[Provider]:
    with Provider(switch) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(up: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("passing"), up.url, WITH_SINK, timeout=2)
    yield program
    if program.process.poll() is None:
        program.kill()


@pytest.fixture(autouse=True)
def _fresh(switch: Switch, up: Provider) -> None:
    switch.respond = chat
    up.asked.clear()
    up.gone = 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_path_passes_unchanged(
    method: str, proxy: Program, up: Provider, switch: Switch
) -> None:
    body = b"\x00not JSON\xff" if method != "GET" else b""

    async def respond(asked: Asked, send: Any) -> None:
        await start(send, 207, "application/x-odd", x_one="1", date="today", server="theirs")
        await piece(send, b"answer\x00", last=True)

    switch.respond = respond
    headers = {"x-odd": "a, b", "Authorization": "Bearer sk-1", "Accept-Encoding": "br"}
    headers["Cookie"] = "a=1; b=2"
    found = httpx.request(
        method, f"{proxy.url}/v1/fine%2Ftuning//jobs?b=2&a=%20x&b", headers=headers, content=body
    )
    assert (found.status_code, found.content) == (207, b"answer\x00")
    assert found.headers["content-type"] == "application/x-odd"
    assert (found.headers["x-one"], found.headers["date"]) == ("1", "today")
    assert found.headers.get_list("server") == ["theirs"]
    (asked,) = up.asked
    assert (asked.method, asked.path) == (method, "/v1/fine%2Ftuning//jobs")
    assert (asked.query, asked.body) == (b"b=2&a=%20x&b", body)
    assert asked.header("x-odd") == "a, b"
    assert asked.header("authorization") == "Bearer sk-1"
    assert asked.header("accept-encoding") == "br"
    assert asked.header("host") == f"127.0.0.1:{up.port}"
    # httpx, which the proxy is asked with here, sends this one; nothing else is added on the way.
    sent = {"x-odd", "authorization", "accept-encoding", "cookie", "accept", "user-agent"}
    assert {n.decode() for n, _ in asked.headers} <= sent | {"host", "content-length"}
    assert asked.header("cookie") == "a=1; b=2"


def test_headers_of_one_connection_stay_on_it(proxy: Program, up: Provider) -> None:
    headers = {"Connection": "x-mine", "x-mine": "1", "TE": "trailers", "Keep-Alive": "5"}
    proxy.client.get("/v1/models", headers=headers)
    names = {name for name, _ in up.asked[0].headers}
    assert not names & {b"x-mine", b"te", b"keep-alive"}


def test_repeated_headers_are_all_there(proxy: Program, switch: Switch) -> None:
    async def respond(_asked: Asked, send: Any) -> None:
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await piece(send, b"", last=True)

    switch.respond = respond
    found = proxy.client.get("/v1/models")
    assert found.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "transfer-encoding" not in found.headers


def test_compressed_bodies_pass_as_they_came(proxy: Program, switch: Switch) -> None:
    packed = gzip.compress(json.dumps(answer("chatcmpl-gz", "packed")).encode())

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, content_encoding="gzip", content_length=str(len(packed)))
        await piece(send, packed, last=True)

    switch.respond = respond
    request = json.dumps({"messages": [{"role": "user", "content": "zip"}]}).encode()
    with proxy.client.stream(
        "POST",
        "/v1/chat/completions",
        content=gzip.compress(request),
        headers={"content-encoding": "gzip"},
    ) as found:
        assert b"".join(found.iter_raw()) == packed
    until(lambda: _stored(proxy, "packed"))


def test_each_piece_arrives_before_the_next_is_sent(proxy: Program, switch: Switch) -> None:
    """A proxy that waited for more would never let the client give the next one free."""
    free = threading.Semaphore(0)

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, kind="text/event-stream")
        for word in ("one", "two", "three"):
            await piece(send, chunk("chatcmpl-slow", {"content": word}))
            await asyncio.to_thread(free.acquire, True, 20)
        await piece(send, chunk("chatcmpl-slow", {}, "stop") + DONE, last=True)

    switch.respond = respond
    with proxy.client.stream("POST", "/v1/chat/completions", json=_asking("x")) as found:
        pieces = found.iter_raw()
        for word in ("one", "two", "three"):
            assert next(pieces) == chunk("chatcmpl-slow", {"content": word})
            free.release()
        assert b"".join(pieces).endswith(DONE)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_a_client_that_hangs_up_cancels_the_request(
    path: str, proxy: Program, up: Provider, switch: Switch
) -> None:
    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, kind="text/event-stream")
        while True:
            await piece(send, b"data: {}\n\n")
            await asyncio.sleep(0.01)

    switch.respond = respond
    with proxy.client.stream("POST", path, json=_asking("x")) as found:
        next(found.iter_raw())
    until(lambda: up.gone == 1, "the end of the upstream's request")
    until(lambda: proxy.health()["streams"] == 0)


def test_a_client_that_hangs_up_before_the_answer_cancels_too(
    proxy: Program, up: Provider, switch: Switch
) -> None:
    async def respond(_asked: Asked, _send: Any) -> None:
        await asyncio.sleep(60)

    switch.respond = respond
    with pytest.raises(httpx.ReadTimeout):
        proxy.client.post("/v1/chat/completions", json=_asking("x"), timeout=0.3)
    until(lambda: up.gone == 1, "the end of the upstream's request")


def test_errors_of_the_upstream_pass_as_they_are(proxy: Program, switch: Switch) -> None:
    body = b'{"error": {"message": "slow down", "type": "rate_limit"}}'

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, 429, retry_after="7")
        await piece(send, body, last=True)

    switch.respond = respond
    before = proxy.health()
    found = proxy.say("x")
    assert (found.status_code, found.content) == (429, body)
    assert found.headers["retry-after"] == "7"
    after = proxy.health()
    assert after["captured"] == before["captured"]
    skipped = [counts["skipped"].get("upstream-error", 0) for counts in (before, after)]
    assert skipped[1] == skipped[0] + 1


def test_an_upstream_that_breaks_off_is_not_made_whole(proxy: Program, switch: Switch) -> None:
    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, content_length="100")
        await piece(send, b"half")
        raise ConnectionResetError

    switch.respond = respond
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.say("x")


def test_a_silent_upstream_is_a_504(proxy: Program, switch: Switch) -> None:
    async def respond(_asked: Asked, _send: Any) -> None:
        await asyncio.sleep(60)

    switch.respond = respond
    found = proxy.say("x")
    assert found.status_code == 504
    error = found.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (
        "upstream_timeout",
        "upstream_error",
        None,
    )


def test_no_upstream_is_a_502(program: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        proxy = program(f"http://127.0.0.1:{taken.getsockname()[1]}", WITH_SINK)
        found = proxy.say("x")
    assert found.status_code == 502
    assert found.json()["error"]["code"] == "upstream_unreachable"
    assert "palate capture got no answer from http://127.0.0.1" in found.json()["error"]["message"]
    counts = proxy.stop()
    assert (counts["captured"], counts["skipped"]) == (0, {"upstream-error": 1})


def test_a_large_upload_is_passed_on_while_it_comes(proxy: Program, up: Provider) -> None:
    body = bytes(range(256)) * 20_000  # 5 MB, of which the first MiB goes out before the last

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 2**18):
            yield body[at : at + 2**18]

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send)
        await piece(send, b"{}", last=True)

    up.respond.respond = respond  # type: ignore[attr-defined]
    proxy.client.post("/v1/files", content=pieces())
    assert up.asked[0].body == body
    length = {"content-length": str(len(body))}
    proxy.client.post("/v1/files", content=pieces(), headers=length)
    assert up.asked[1].body == body
    assert up.asked[1].header("content-length") == str(len(body))


def test_a_response_to_head_has_no_body(proxy: Program, switch: Switch) -> None:
    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, content_length="1234")
        await piece(send, b"", last=True)

    switch.respond = respond
    found = proxy.client.head("/v1/models")
    assert (found.headers["content-length"], found.content) == ("1234", b"")
    assert proxy.client.get("/palate/health").status_code == 200  # the connection is sound


def test_200_streams_at_once_are_not_mixed_up(proxy: Program, switch: Switch) -> None:
    async def respond(asked: Asked, send: Any) -> None:
        name = json.loads(asked.body)["messages"][0]["content"]
        await start(send, kind="text/event-stream")
        for number in range(20):
            await piece(send, chunk(f"chatcmpl-{name}", {"content": f"{name}/{number} "}))
            await asyncio.sleep(0.01)
        await piece(send, chunk(f"chatcmpl-{name}", {}, "stop") + DONE, last=True)

    switch.respond = respond

    async def one(client: httpx.AsyncClient, number: int) -> bool:
        asking = _asking(f"s{number}") | {"stream": True}
        found = await client.post("/v1/chat/completions", json=asking)
        events = [line[6:] for line in found.text.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        words = "".join(delta.get("content", "") for delta in deltas)
        return words == "".join(f"s{number}/{n} " for n in range(20))

    async def all_of_them() -> list[bool]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=proxy.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(one(client, number) for number in range(200)))

    assert asyncio.run(all_of_them()) == [True] * 200
    until(lambda: len(_stored(proxy, "/19 ")) == 200)
    for row in _stored(proxy, "/19 "):
        (prompt,) = row["example"]["prompt"]  # type: ignore[index]
        (said,) = row["example"]["completions"]  # type: ignore[index]
        name = prompt["content"]
        words = "".join(f"{name}/{number} " for number in range(20))
        assert said["messages"][0]["content"] == words


def _asking(text: str) -> dict[str, Any]:
    return {"model": "small-1", "messages": [{"role": "user", "content": text}], "stream": True}


def _stored(proxy: Program, text: str) -> list[dict[str, object]]:
    """The stored rows that hold the text."""
    return [row for row in stored(proxy.folder) if text in json.dumps(row)]


def test_the_program_ends_politely(program: Callable[..., Program], provider: Provider) -> None:
    """A stream that is under way at SIGTERM comes to its end, and is stored."""

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, kind="text/event-stream")
        await piece(send, chunk("chatcmpl-late", {"content": "at "}))
        await asyncio.sleep(1.0)
        await piece(send, chunk("chatcmpl-late", {"content": "last"}, "stop") + DONE, last=True)

    provider.respond = respond
    proxy = program(provider.url, WITH_SINK)
    with proxy.client.stream("POST", "/v1/chat/completions", json=_asking("x")) as found:
        pieces = found.iter_raw()
        next(pieces)
        proxy.process.terminate()
        time.sleep(0.2)
        assert b"".join(pieces).endswith(DONE)
    counts = proxy.stop()
    assert (counts["stored"], counts["lost"], counts["spilled"]) == (1, 0, 0)
    assert len(stored(proxy.folder)) == 1


def test_a_client_that_hangs_up_at_the_end_of_the_stream_has_had_all_of_it(
    proxy: Program, switch: Switch
) -> None:
    """As OpenAI's clients do at `[DONE]`, while the provider's connection is still open."""

    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, kind="text/event-stream")
        await piece(send, chunk("chatcmpl-hasty01", {"content": "a whole answer"}, "stop") + DONE)
        await asyncio.sleep(60)

    switch.respond = respond
    with proxy.client.stream("POST", "/v1/chat/completions", json=_asking("x")) as found:
        assert next(found.iter_raw()).endswith(DONE)
    until(lambda: _stored(proxy, "a whole answer"))


def test_an_answer_that_is_cut_is_not_stored(proxy: Program, switch: Switch) -> None:
    async def respond(_asked: Asked, send: Any) -> None:
        await start(send, kind="text/event-stream")
        await piece(send, chunk("chatcmpl-cut0001", {"content": "half an"}))
        await asyncio.sleep(60)

    switch.respond = respond
    before = proxy.health()["rejected"].get("stream-cut", 0)
    with proxy.client.stream("POST", "/v1/chat/completions", json=_asking("x")) as found:
        next(found.iter_raw())
    until(lambda: proxy.health()["rejected"].get("stream-cut", 0) == before + 1)
    assert not _stored(proxy, "half an")
