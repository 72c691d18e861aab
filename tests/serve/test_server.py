"""The server as its operator sees it: health, metrics, keys, draining, adapters, a guard."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.guard.conftest import base, trained  # noqa: F401 - fixtures
from tests.guard.worlds import prompts
from tests.model.test_many_adapters import merged, save_adapter
from tests.serve.conftest import Served, until
from tests.serve.test_conformance import RENDERER

from palate.config import ConfigError
from palate.generate.sampling import Sampling, sample
from palate.guard.check import Guard
from palate.guard.training import Trained
from palate.model.policy import Policy
from palate.records import Message
from palate.serve.guarding import REFUSAL
from palate.serve.models import with_bases
from palate.serve.settings import Entry


def page(served: Served) -> dict[str, float]:
    """The metrics by name with labels."""
    text = httpx.get(served.url.removesuffix("/v1") + "/metrics").text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_count_what_happened(tiny: Path) -> None:
    with Served([Entry("tiny", str(tiny))]) as served:
        found = served.say(max_tokens=5, n=2)
        with pytest.raises(openai.NotFoundError):
            served.say(model="big")
        told = page(served)
    assert told['palate_requests_total{model="tiny",status="200"}'] == 1
    assert told['palate_requests_total{model="",status="404"}'] == 1
    assert told['palate_prompt_tokens_total{model="tiny"}'] == found.usage.prompt_tokens
    assert told['palate_completion_tokens_total{model="tiny"}'] == found.usage.completion_tokens
    assert told["palate_time_to_first_token_seconds_count"] == 1
    assert told["palate_request_seconds_count"] == 2
    assert (told["palate_queue"], told["palate_running"]) == (0, 0)
    assert told["palate_cache_bytes"] > 0


def test_a_key_is_asked_for_everywhere_but_at_health(tiny: Path) -> None:
    with Served([Entry("tiny", str(tiny))], api_key="sk-right") as served:
        assert served.say(max_tokens=1).choices
        root = served.url.removesuffix("/v1")
        assert httpx.get(f"{root}/health").status_code == 200
        for path in ("/metrics", "/v1/models"):
            assert httpx.get(f"{root}{path}").status_code == 401
        wrong = openai.OpenAI(base_url=served.url, api_key="sk-wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            wrong.models.list()
        wrong.close()


def test_draining_ends_what_is_under_way_and_takes_nothing_new(tiny: Path) -> None:
    with Served([Entry("tiny", str(tiny))], max_tokens=1500) as served:
        stream = served.say(seed=2, temperature=1.5, stream=True, n=16)
        first = next(iter(stream))
        health = httpx.Client(base_url=served.url.removesuffix("/v1"))
        assert health.get("/health").json()["status"] == "ready"
        served.ask()
        until(lambda: served.running.app.state == "draining", "the draining")
        refused = health.get("/health")
        assert (refused.status_code, refused.json()["status"]) == (503, "draining")
        late = health.post("/v1/chat/completions", json={})
        assert (late.status_code, late.headers["retry-after"]) == (503, "5")
        ends = [c.choices[0].finish_reason for c in stream if c.choices[0].finish_reason]
        assert first.choices[0].delta.role == "assistant"
        assert len(ends) == 16
        health.close()
    assert served.said[-1].startswith("draining")


def test_a_second_signal_ends_at_once(tiny: Path) -> None:
    with Served([Entry("tiny", str(tiny))], max_tokens=1900, rows=2) as served:
        streams = [served.say(seed=k, temperature=3, stream=True, n=2) for k in range(2)]
        next(iter(streams[0]))
        begin = time.monotonic()
        served.ask()
        served.ask()
        served.thread.join(15)
        assert time.monotonic() - begin < 15
        for stream in streams:
            stream.close()


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"), Served([Entry("x", str(tmp_path))]):
        pass


def test_a_client_that_takes_nothing_holds_nobody_up(tiny: Path) -> None:
    import json
    import socket

    with Served([Entry("tiny", str(tiny))], max_tokens=600, send_timeout=2.0) as served:
        host, port = served.running.url.removeprefix("http://").split(":")
        many = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True}
        body = json.dumps({**many, "n": 24, "temperature": 3, "logprobs": True, "top_logprobs": 20})
        with socket.create_connection((host, int(port))) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost"
            slow.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            until(lambda: page(served)["palate_running"] >= 1, "the slow one's start")
            assert served.say(max_tokens=4).choices
            until(lambda: page(served)["palate_disconnects_total"] == 1, "the slow one's end")
            until(lambda: page(served)["palate_running"] == 0, "its rows")


def answers(model: Any, text: str) -> str:
    """What a model says alone, seed 7."""
    ids = RENDERER.prompt([Message("user", text)])
    policy = Policy(model, layout="plain").eval()
    how = Sampling(24, temperature=1.0, top_k=0, seed=7)
    found = sample(policy, [ids], how, end_ids=tuple(RENDERER.end_ids))[0][0]
    return str(RENDERER.tokenizer.decode(list(found.ids), skip_special_tokens=True))


def test_adapters_answer_as_their_merged_models_all_at_once(tiny: Path, tmp_path: Path) -> None:
    from tests.tiny import tiny_model

    folders = {name: save_adapter(tmp_path / name, seed) for seed, name in enumerate("ab", 1)}
    entries = [Entry(name, str(tiny), adapter=folder) for name, folder in folders.items()]
    models = {"base": tiny_model(), **{name: merged(folder) for name, folder in folders.items()}}
    expected = {
        (name, text): answers(model, text)
        for name, model in models.items()
        for text in ("hello", "another question")
    }
    assert len(set(expected.values())) == 6
    found: dict[Any, str] = {}
    with Served(entries) as served:
        assert [one.id for one in served.client.models.list()] == ["a", "b", "base"]

        def ask(name: str, text: str) -> None:
            said = served.say(text, model=name, seed=7)
            found[name, text] = said.choices[0].message.content

        asking = [threading.Thread(target=ask, args=key) for key in expected]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(60)
        prints = {served.say(model=name, max_tokens=1).system_fingerprint for name in models}
    assert found == expected
    assert len(prints) == 3


def test_bases_have_names() -> None:
    a, b = Path("a"), Path("b")
    one = [Entry("x", "m/small", adapter=a), Entry("y", "m/small", adapter=b)]
    assert [entry.name for entry in with_bases(one)] == ["x", "y", "base"]
    two = [Entry("x", "m/small", adapter=a), Entry("y", "m/large", adapter=b)]
    assert [entry.name for entry in with_bases(two)] == ["x", "y", "base-small", "base-large"]
    ways = [Entry("x", "m/small", "auto", adapter=a), Entry("y", "m/small", "chat", adapter=b)]
    assert [entry.name for entry in with_bases(ways)] == ["x", "y", "base-small", "base-small-2"]
    own = [Entry("x", "m/small", adapter=a), Entry("small", "m/small")]
    assert [entry.name for entry in with_bases(own)] == ["x", "small"]
    with pytest.raises(ConfigError, match="two models would be called 'x'"):
        with_bases([Entry("x", "m/small"), Entry("x", "m/large")])


def test_a_guard_stops_prompts_before_they_are_answered(
    tiny: Path,
    trained: Trained,  # noqa: F811
) -> None:
    texts = [row["prompt"] for row in prompts(8, 400)]
    said = [trained.guard.check_prompt([Message("user", text)]).unsafe for text in texts]
    assert True in said
    assert False in said
    with Served([Entry("tiny", str(tiny))], guard=str(trained.folder)) as served:
        plain = {text: answers_of(served, text) for text in texts}
        for text, unsafe in zip(texts, said, strict=True):
            assert plain[text] == ((REFUSAL, "content_filter") if unsafe else plain[text])
            assert (plain[text][0] == REFUSAL) == unsafe
        blocked = texts[said.index(True)]
        chunks = list(served.say(blocked, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == REFUSAL
        assert chunks[-1].choices[0].finish_reason == "content_filter"
        told = page(served)
    assert told['palate_guard_blocks_total{kind="prompt"}'] == said.count(True) + 1
    assert told['palate_guard_seconds_count{kind="prompt"}'] == len(texts) + 1


def answers_of(served: Served, text: str) -> tuple[str, str]:
    choice = served.say(text, seed=1).choices[0]
    return choice.message.content, choice.finish_reason


class _Strict:
    """A guard for answers that finds every second one unsafe."""

    class saved:  # noqa: N801 - stands for an attribute
        kinds = {"answer": 10}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check_answers(self, pairs: Any, tools: Any) -> list[Any]:
        from palate.guard.check import Verdict

        self.asked += [answer for _, answer in pairs]
        return [Verdict(0.5, index % 2 == 1) for index in range(len(pairs))]


def test_a_guard_looks_at_answers_before_they_are_sent(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = _Strict()
    monkeypatch.setattr(Guard, "load", lambda folder: strict)
    with Served([Entry("tiny", str(tiny))], guard="somewhere") as served:
        free, blocked = served.say(seed=3, n=2, logprobs=True).choices
        assert (blocked.message.content, blocked.finish_reason) == (REFUSAL, "content_filter")
        assert blocked.logprobs.content == []
        assert free.finish_reason in {"stop", "length"}
        assert strict.asked[0] == free.message.content
        assert strict.asked[1] not in {"", REFUSAL}
        chunks = [c.choices[0] for c in served.say(seed=3, n=2, stream=True)]
        texts = ["".join(c.delta.content or "" for c in chunks if c.index == k) for k in (0, 1)]
        assert texts == [free.message.content, REFUSAL]
        assert page(served)['palate_guard_blocks_total{kind="answer"}'] == 2
