"""The official client against the server: every form of answer, and every error."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.serve.conftest import Served
from tests.tiny import byte_tokenizer, tiny_model

from palate.generate.sampling import Sample, Sampling, sample
from palate.model.policy import Policy
from palate.records import Message
from palate.serve.settings import Entry
from palate.tokens.render import Renderer

RENDERER = Renderer(byte_tokenizer())


def expected(text: str, n: int = 1, **how: Any) -> list[tuple[str, bool]]:
    """What `sample` says for the same settings: text, and whether it ended by itself."""
    settings = {"max_new_tokens": 24, "temperature": 1.0, "top_k": 0, "seed": 7, **how}
    ids = RENDERER.prompt([Message("user", text)])
    policy = Policy(tiny_model(), layout="plain").eval()
    found = sample(policy, [ids], Sampling(**settings), end_ids=tuple(RENDERER.end_ids), n=n)[0]
    tokenizer = RENDERER.tokenizer
    return [
        (tokenizer.decode(list(one.ids), skip_special_tokens=True), one.finished) for one in found
    ]


def test_an_answer_is_what_sampling_gives(served: Served) -> None:
    ((text, ended),) = expected("hello")
    found = served.say("hello", seed=7)
    assert found.id.startswith("chatcmpl-")
    assert found.object == "chat.completion"
    assert found.model == "tiny"
    assert found.system_fingerprint.startswith("fp_")
    (choice,) = found.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == text
    assert choice.finish_reason == ("stop" if ended else "length")
    ids = RENDERER.prompt([Message("user", "hello")])
    assert found.usage.prompt_tokens == len(ids)
    assert found.usage.total_tokens == len(ids) + found.usage.completion_tokens
    assert 1 <= found.usage.completion_tokens <= 24


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 0.7, "top_p": 0.5}, {"temperature": 0.7, "top_p": 0.5}),
        ({"extra_body": {"top_k": 5}}, {"top_k": 5}),
        ({"max_tokens": 3}, {"max_new_tokens": 3}),
        ({"max_completion_tokens": 5}, {"max_new_tokens": 5}),
    ],
)
def test_settings_are_followed(served: Served, asked: Any, how: Any) -> None:
    assert served.say(seed=7, **asked).choices[0].message.content == expected("hello", **how)[0][0]


def test_choices_are_the_answers_of_one_seed(served: Served) -> None:
    found = served.say(seed=7, n=4)
    assert [one.index for one in found.choices] == [0, 1, 2, 3]
    assert [one.message.content for one in found.choices] == [t for t, _ in expected("hello", 4)]
    assert len({one.message.content for one in found.choices}) == 4


def test_a_stream_joins_to_the_answer(served: Served) -> None:
    chunks = list(served.say(seed=7, n=2, stream=True, stream_options={"include_usage": True}))
    whole = served.say(seed=7, n=2)
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    for index in (0, 1):
        own = [c for chunk in chunks for c in chunk.choices if c.index == index]
        assert own[0].delta.role == "assistant"
        assert all(one.delta.role is None for one in own[1:])
        text = "".join(one.delta.content or "" for one in own)
        assert text == whole.choices[index].message.content
        assert [one.finish_reason for one in own if one.finish_reason] == [
            whole.choices[index].finish_reason
        ]
        assert own[-1].finish_reason is not None
        assert len(own) > 5  # it came bit by bit


def test_a_stream_without_usage_says_none(served: Served) -> None:
    assert all(chunk.usage is None for chunk in served.say(seed=7, stream=True))


def test_the_async_client_and_its_streams(served: Served) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=served.url, api_key="-", max_retries=0) as client:
            wanted: Any = {
                "model": "tiny",
                "messages": [{"role": "user", "content": "hello"}],
                "seed": 7,
            }
            whole, stream = await asyncio.gather(
                client.chat.completions.create(**wanted),
                client.chat.completions.create(**wanted, stream=True),
            )
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content, "".join(parts)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed == expected("hello")[0][0]


@pytest.mark.parametrize("stream", [False, True])
def test_stop_texts_end_an_answer_and_are_not_shown(served: Served, stream: bool) -> None:
    text = expected("hello", temperature=0)[0][0]
    stop = text[4:7]  # three characters, each at least one token
    at = text.find(stop)
    found = served.say(temperature=0, stop=[stop, "never said"], stream=stream)
    if stream:
        chunks = [chunk.choices[0] for chunk in found]
        said, reason = "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason
    else:
        said, reason = found.choices[0].message.content, found.choices[0].finish_reason
        assert found.usage.completion_tokens < 24
    assert said == text[:at]
    assert reason == "stop"
    assert served.say(temperature=0, stop=stop).choices[0].message.content == text[:at]


def test_a_stop_text_that_never_comes_holds_nothing_back_for_good(served: Served) -> None:
    text = expected("hello", temperature=0)[0][0]
    stop = text[-2:] + "!"  # its beginning is the answer's end
    assert served.say(temperature=0, stop=stop).choices[0].message.content == text


def greedy() -> Sample:
    """What `sample` says to "hello" in fp32, the likeliest token each time."""
    ids = RENDERER.prompt([Message("user", "hello")])
    policy = Policy(tiny_model(), layout="plain").eval()
    settings = Sampling(6, temperature=0)
    return sample(policy, [ids], settings, end_ids=tuple(RENDERER.end_ids))[0][0]


def test_in_bf16_log_probs_are_near(tiny: Path) -> None:
    """Logits of a few nats, of numbers with 8 bits: off by some hundredths at the first token."""
    with Served([Entry("tiny", str(tiny))], bf16=True) as served:
        found = served.say(temperature=0, max_tokens=6, logprobs=True)
        scheduler = served.running.scheduler
        assert scheduler is not None
        assert [lane.policy.precision for lane in scheduler._lanes] == ["bf16"]
    first = found.choices[0].logprobs.content[0].logprob
    assert first == pytest.approx(greedy().logps[0], abs=0.1)


def test_log_probs_are_those_of_the_model(served: Served) -> None:
    found = served.say(temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    content = found.choices[0].logprobs.content
    drawn = greedy()
    shown = [i for i in drawn.ids if i not in RENDERER.end_ids]
    assert [entry.logprob for entry in content] == pytest.approx(
        drawn.logps[: len(shown)], abs=1e-4
    )
    for entry, token in zip(content, shown, strict=True):
        assert entry.token == RENDERER.tokenizer.decode([token])
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob)  # greedy
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) < 1
    raw = bytes(byte for entry in content for byte in entry.bytes)
    assert raw.decode("utf-8", "replace") == RENDERER.tokenizer.decode(shown)


def test_log_probs_of_a_stream_are_those_of_the_answer(served: Served) -> None:
    whole = served.say(seed=7, logprobs=True).choices[0].logprobs.content
    parts = served.say(seed=7, logprobs=True, stream=True)
    streamed = [e for c in parts if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert [e.token for e in streamed] == [e.token for e in whole]
    assert [e.logprob for e in streamed] == pytest.approx([e.logprob for e in whole], abs=1e-4)
    assert all(e.top_logprobs == [] for e in streamed)


def test_models_are_listed(served: Served) -> None:
    assert [one.id for one in served.client.models.list()] == ["tiny"]
    assert served.client.models.retrieve("tiny").owned_by == "palate"
    with pytest.raises(openai.NotFoundError, match="no model 'big'"):
        served.client.models.retrieve("big")


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        ({"messages": []}, "messages", "empty"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "wizard"),
        ({"temperature": -1}, "temperature", "between 0 and 100"),
        ({"top_p": 1.5}, "top_p", "between 0 and 1"),
        ({"max_tokens": 0}, "max_tokens", "between 1"),
        ({"n": 0}, "n", "between 1 and 128"),
        ({"n": 33}, "n", "32 answers"),
        ({"stop": [""]}, "stop", "not empty"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs: true"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not offered"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not offered"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not offered"),
        ({"tool_choice": "required"}, "tool_choice", "not offered"),
        ({"extra_body": {"best_of": 3}}, "best_of", "unknown parameter"),
        ({"extra_body": {"temperature": "hot"}}, "temperature", "is text, not a number"),
        ({"extra_body": {"seed": 1.5}}, "seed", "whole number"),
        ({"max_tokens": 5000}, "max_tokens", "context is 2048 tokens"),
        ({"messages": [{"role": "user", "content": "<|end|>"}]}, "messages[0]", "control token"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "leaves the tools"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    served: Served, asked: Any, param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        served.say(**asked)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_a_prompt_beyond_the_context_has_a_code_of_its_own(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.say("long " * 600)
    assert caught.value.code == "context_length_exceeded"


def test_what_changes_nothing_is_ignored(served: Served) -> None:
    harmless = {"presence_penalty": 0, "response_format": {"type": "text"}, "user": "anna"}
    found = served.say(seed=7, store=True, metadata={"a": "b"}, logit_bias={}, **harmless)
    assert found.choices[0].message.content == expected("hello")[0][0]


def test_other_errors_have_their_status(served: Served) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        served.say(model="big")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    root = served.url.removesuffix("/v1")
    assert httpx.post(f"{served.url}/chat/completions", content=b"{").status_code == 400
    assert httpx.post(f"{served.url}/chat/completions", content=b"[]").status_code == 400
    assert httpx.post(f"{served.url}/embeddings", json={}).status_code == 404
    assert httpx.get(f"{served.url}/chat/completions").status_code == 405
    large = httpx.post(f"{served.url}/chat/completions", content=b" " * (8 * 2**20 + 1))
    assert large.status_code == 413
    assert large.json()["error"]["code"] == "too_large"
    asked = {"host": "evil.example"}
    assert httpx.get(f"{root}/health", headers=asked).status_code == 403
    asked = {"origin": "https://evil.example"}
    assert httpx.get(f"{root}/v1/models", headers=asked).status_code == 403
    asked = {"origin": "http://localhost:3000"}
    assert httpx.get(f"{root}/v1/models", headers=asked).status_code == 200
    assert httpx.post(f"{root}/v1/feedback", json={}).status_code == 404  # nothing is kept
    health = httpx.get(f"{root}/health")
    assert (health.status_code, health.json()["status"]) == (200, "ready")


def test_a_compressed_body_is_read(served: Served) -> None:
    import gzip

    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "seed": 7}
    packed = gzip.compress(json.dumps(body).encode())
    sent = httpx.post(
        f"{served.url}/chat/completions", content=packed, headers={"content-encoding": "gzip"}
    )
    assert sent.json()["choices"][0]["message"]["content"] == expected("hello")[0][0]
    bomb = httpx.post(
        f"{served.url}/chat/completions",
        content=gzip.compress(b" " * (9 * 2**20)),
        headers={"content-encoding": "gzip"},
    )
    assert bomb.status_code == 413
