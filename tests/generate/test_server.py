"""Sampling from a server: what is asked, what is read, and every way in which it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.judge.chat_server import Act, ChatServer, Handler, chat_server, status

from palate.generate.draw import Sample, Sampling
from palate.generate.server import Drawn, SamplerStopped, ServerSampler, ServerSettings

END = 9
DRAWN = Sampling(max_new_tokens=4, temperature=0.7, top_k=0, seed=(3, 1))
SECRET = "sk-very-secret-1234"


def choice(index: int, ids: list[int], **more: Any) -> dict[str, Any]:
    logps = [-0.5 - index - place for place in range(len(ids))]
    finish = "stop" if ids[-1:] == [END] else "length"
    return {
        "index": index,
        "text": "…",
        "finish_reason": finish,
        "logprobs": {"token_logprobs": logps, "tokens": [], "top_logprobs": []},
        "token_ids": ids,
        **more,
    }


def completions(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer k begins with the prompt's last token, and has k more tokens before its end."""
    first = asked["prompt"][-1]
    return [choice(k, [first, *[k] * k, END][: asked["max_tokens"]]) for k in range(asked["n"])]


def works(change: Callable[[list[dict[str, Any]]], Any] = lambda choices: None) -> Act:
    def act(handler: Handler) -> None:
        if handler.path.endswith("load_lora_adapter"):
            handler.send(200, b"Success: LoRA adapter 'palate' added successfully.", "text/plain")
            return
        choices = completions(handler.asked)
        change(choices)
        handler.send(200, json.dumps({"object": "text_completion", "choices": choices}).encode())

    return act


def raw(body: bytes) -> Act:
    return lambda handler: handler.send(200, body)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as found:
        found.otherwise = works()
        yield found


def sampler(server: ChatServer, waits: list[float] | None = None, **more: Any) -> ServerSampler:
    settings = ServerSettings(server.url, "base", timeout=5.0, retries=2, concurrency=4)
    waited = waits if waits is not None else []
    return ServerSampler(replace(settings, **more), wait=waited.append)


def draw(one: ServerSampler, n: int = 3, sampling: Sampling = DRAWN) -> Drawn:
    try:
        return one.sample([[1, 2, 5], [7]], sampling, end_ids=[END], n=n)
    finally:
        one.close()


EXPECTED = [
    [
        Sample((first, END), True, (-0.5, -1.5)),
        Sample((first, 1, END), True, (-1.5, -2.5, -3.5)),
        Sample((first, 2, 2, END), True, (-2.5, -3.5, -4.5, -5.5)),
    ]
    for first in (5, 7)
]


def test_answers_come_with_their_log_probs_in_order(server: ChatServer) -> None:
    server.otherwise = works(lambda choices: choices.reverse())
    done: list[int] = []
    one = sampler(server)
    found = one.sample([[1, 2, 5], [7]], DRAWN, end_ids=[END], n=3, advance=done.append)
    one.close()
    assert found == Drawn(EXPECTED, [0, 0])
    assert done == [3, 3]


def test_an_answer_that_was_cut_is_not_finished(server: ChatServer) -> None:
    found = draw(sampler(server), n=4)
    assert found.answers[0][3] == Sample((5, 3, 3, 3), False, (-3.5, -4.5, -5.5, -6.5))


def test_what_is_asked_leaves_nothing_to_the_servers_defaults(server: ChatServer) -> None:
    draw(sampler(server))
    assert set(server.paths) == {"/v1/completions"}
    first = {len(body["prompt"]): body.pop("seed") for body in server.requests}
    asked = {len(body["prompt"]): body for body in server.requests}
    body = asked[3]
    assert asked[1] == {**body, "prompt": [7]}
    assert body == {
        "model": "base",
        "prompt": [1, 2, 5],
        "max_tokens": 4,
        "temperature": 0.7,
        "top_k": -1,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "n": 3,
        "ignore_eos": True,
        "stop_token_ids": [END],
        "logprobs": 1,
        "return_token_ids": True,
        "cache_salt": "palate-0",
    }
    draw(sampler(server), sampling=replace(DRAWN, seed=(3, 2)))
    second = {len(body["prompt"]): body["seed"] for body in server.requests[2:]}
    assert len({*first.values(), *second.values()}) == 4


def test_greedy_is_asked_for_once(server: ChatServer) -> None:
    found = draw(sampler(server), sampling=replace(DRAWN, temperature=0.0))
    assert {body["n"] for body in server.requests} == {1}
    assert found.answers[0] == [Sample((5, END), True, (-0.5, -1.5))] * 3


def test_a_pushed_adapter_draws_what_follows(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    one = sampler(server, adapter="mine")
    one.push(tmp_path, version=4)
    assert server.paths == ["/v1/load_lora_adapter"]
    assert server.requests == [
        {"lora_name": "mine", "lora_path": str(tmp_path.resolve()), "load_inplace": True}
    ]
    found = draw(one)
    assert found.versions == [4, 4]
    assert found.staleness(6) == [2, 2]
    assert {(body["model"], body["cache_salt"]) for body in server.requests[1:]} == {
        ("mine", "palate-4")
    }


def test_an_adapter_that_is_not_loaded_leaves_the_version(
    server: ChatServer, tmp_path: Path
) -> None:
    one = sampler(server)
    with pytest.raises(SamplerStopped, match=r"no adapter: there is no adapter_config\.json"):
        one.push(tmp_path, 1)
    (tmp_path / "adapter_config.json").write_text("{}")
    server.plan = [status(400, "rank 64 is greater than max_lora_rank 16")]
    with pytest.raises(SamplerStopped, match=r"max_lora_rank 16.*--max-lora-rank that is high"):
        one.push(tmp_path, 1)
    server.plan = [status(404)]
    with pytest.raises(SamplerStopped, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        one.push(tmp_path, 1)
    assert draw(one).versions == [0, 0]


def hang(handler: Handler) -> None:
    handler.server.over.wait(20)


def half(handler: Handler) -> None:
    handler.cut(json.dumps({"choices": completions(handler.asked)}).encode()[:40])


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def no_choices(choices: list[dict[str, Any]]) -> None:
    choices.clear()


MENDED: dict[str, Act] = {
    "busy": status(429),
    "down": status(503, "loading"),
    "broken": status(500),
    "hangs up": hang_up,
    "half a reply": half,
    "garbage": raw(b"<html>"),
    "no object": raw(b"[1, 2]"),
    "other json": raw(b'{"choices": 3}'),
    "no answers": works(no_choices),
    "an answer too few": works(lambda choices: choices.pop()),
    "an answer too many": works(lambda choices: choices.append(choices[0])),
    "one answer twice": works(lambda choices: choices[1].update(index=0)),
    "an aborted answer": works(lambda choices: choices[1].update(finish_reason="abort")),
    "a log-prob too few": works(lambda c: c[0]["logprobs"]["token_logprobs"].pop()),
    "a log-prob that is none": works(
        lambda c: c[0]["logprobs"].update(token_logprobs=[None, -1.0])
    ),
    "an infinite log-prob": works(
        lambda c: c[0]["logprobs"].update(token_logprobs=[float("-inf"), -1.0])
    ),
    "a token that is none": works(lambda choices: choices[0].update(token_ids=["a", END])),
    "no tokens": works(lambda c: c[0].update(token_ids=[], logprobs={"token_logprobs": []})),
    "tokens past the end": works(lambda choices: choices[2].update(token_ids=[END, 2, 2, END])),
}


@pytest.mark.parametrize("kind", MENDED)
def test_what_may_mend_is_asked_again(server: ChatServer, kind: str) -> None:
    waits: list[float] = []
    server.plan = [MENDED[kind], MENDED[kind]]
    assert draw(sampler(server, waits, concurrency=1)).answers == EXPECTED
    assert len(server.requests) == 4
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize("kind", MENDED)
def test_what_does_not_mend_ends_in_one_line(server: ChatServer, kind: str) -> None:
    server.otherwise = MENDED[kind]
    with pytest.raises(SamplerStopped, match="gave no usable reply in 3 tries") as stopped:
        draw(sampler(server))
    assert "\n" not in str(stopped.value)


def test_a_server_that_says_when_is_waited_for_but_not_for_ever(server: ChatServer) -> None:
    waits: list[float] = []
    server.plan = [status(429, retry_after="7"), status(429, retry_after="86400")]
    assert draw(sampler(server, waits, concurrency=1)).answers == EXPECTED
    assert waits == [7.0, 60.0]


def test_a_server_that_hangs_is_left(server: ChatServer) -> None:
    server.plan = [hang]
    assert draw(sampler(server, timeout=0.3, concurrency=1)).answers == EXPECTED


def test_a_reply_that_trickles_is_left(server: ChatServer) -> None:
    """Each part comes in time, the whole does not: the clock here ticks once a look."""

    def trickle(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            if handler.server.over.wait(0.01):
                return

    server.plan = [trickle]
    ticks = iter(range(10_000))
    settings = ServerSettings(server.url, "base", timeout=5.0, retries=2, concurrency=1)
    one = ServerSampler(settings, wait=lambda seconds: None, clock=lambda: float(next(ticks)))
    assert draw(one).answers == EXPECTED
    assert len(server.requests) == 3


def test_nobody_there_is_one_line() -> None:
    settings = ServerSettings("http://127.0.0.1:9/v1", "base", timeout=2.0, retries=1)
    with pytest.raises(SamplerStopped, match=r"127\.0\.0\.1:9/v1 gave no usable reply in 2 tries"):
        draw(ServerSampler(settings, wait=lambda seconds: None))


STOPS: dict[str, tuple[Act, str]] = {
    "key": (status(401), "the key is refused"),
    "model": (status(404), "check url and model"),
    "prompt": (status(400, "maximum context length is 2048"), "maximum context length is 2048"),
    "ids": (works(lambda c: c[0].pop("token_ids")), "no token ids"),
    "logprobs": (works(lambda c: c[0].update(logprobs=None)), "no log-probs"),
    "token_logprobs": (works(lambda c: c[0].update(logprobs={})), "no log-probs"),
    "the end": (works(lambda c: c[0].update(token_ids=[5, 4])), "leaves the last one out"),
}


@pytest.mark.parametrize("kind", STOPS)
def test_what_no_retry_mends_stops_at_once(server: ChatServer, kind: str) -> None:
    act, said = STOPS[kind]
    server.otherwise = act
    waits: list[float] = []
    with pytest.raises(SamplerStopped, match=said) as stopped:
        draw(sampler(server, waits))
    assert waits == []
    assert "\n" not in str(stopped.value)
    assert isinstance(stopped.value, ValueError)


def test_the_key_is_sent_and_never_shown(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLER_KEY", SECRET)
    draw(sampler(server, key_env="SAMPLER_KEY"))
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
    server.otherwise = status(401, f"bad key {SECRET}")
    with pytest.raises(SamplerStopped, match=r"bad key \*\*\*"):
        draw(sampler(server, key_env="SAMPLER_KEY"))
    assert SECRET not in repr(sampler(server, key_env="SAMPLER_KEY"))
    monkeypatch.delenv("SAMPLER_KEY")
    with pytest.raises(SamplerStopped, match="SAMPLER_KEY holds no key"):
        sampler(server, key_env="SAMPLER_KEY")


def test_what_cannot_be_asked_is_refused(server: ChatServer) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        sampler(server).sample([[]], DRAWN, end_ids=[END])
    with pytest.raises(SamplerStopped, match="must begin with http"):
        ServerSettings("localhost:8000", "base")
    assert sampler(server).sample([], DRAWN, end_ids=[END]) == Drawn([], [])
    assert server.requests == []
