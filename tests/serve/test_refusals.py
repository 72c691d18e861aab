"""Requests that cannot be answered: each fails alone, early, and in OpenAI's form."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.model.test_many_adapters import save_adapter
from tests.serve.conftest import Served
from tests.serve.test_server import page
from tests.tiny import byte_tokenizer, tiny_model

from palate.model.load import weights_hash
from palate.serve import chat as chats
from palate.serve import models
from palate.serve.app import App
from palate.serve.metrics import Metrics
from palate.serve.models import open_models
from palate.serve.settings import Entry, Settings
from palate.tokens.render import Renderer

ESCAPED = json.dumps({"x": "<|end|>"}).replace("<", "\\u003c")  # a template gets it decoded


def call(arguments: str) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"messages": [{"role": "user", "content": "x", "name": "<|end|>"}]}, "messages[0]"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [call(ESCAPED)]}]},
            "messages[0]",
        ),
        ({"tools": [{"type": "function", "function": {"name": "<|end|>"}}]}, "tools[0]"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "x": [{"<|end|>": 1}]}}]},
            "tools[0]",
        ),
    ],
)
def test_control_tokens_are_found_wherever_they_are(served: Served, asked: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError, match="control token") as caught:
        served.say(**asked)
    assert (caught.value.param, caught.value.code) == (param, "control_token")


@pytest.mark.parametrize("messages", [[{"role": "user", "content": ""}] * 2049, "long"])
def test_what_cannot_fit_is_not_rendered(
    served: Served, messages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2048 positions, and no token of the tiny tokenizer has more than 20 characters."""
    monkeypatch.setattr(Renderer, "prompt", lambda *given: pytest.fail("it was rendered"))
    many = [{"role": "user", "content": "x" * (2048 * 20 + 1)}] if messages == "long" else messages
    with pytest.raises(openai.BadRequestError, match="cannot fit") as caught:
        served.say(messages=many)
    assert caught.value.code == "context_length_exceeded"


def test_a_prompt_without_a_token_is_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer(template=None).save_pretrained(tmp_path)
    with Served([Entry("tiny", str(tmp_path), "raw")], max_tokens=2) as served:
        with pytest.raises(openai.BadRequestError, match="no token to answer to") as caught:
            served.say("")
        assert caught.value.code == "empty_prompt"
        assert served.say("x").choices


def test_failures_and_crowds(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One server: what nobody foresaw, more requests than may be here, a dead scheduler."""
    with Served([Entry("tiny", str(tiny))], max_tokens=2, rows=2, queue=0) as served:
        assert served.say().choices  # a queue of none refuses nobody while rows are free
        with monkeypatch.context() as patched:
            patched.setattr(chats, "open_job", lambda *given, **more: 1 / 0)
            with pytest.raises(openai.InternalServerError) as failed:
                served.say()
        assert failed.value.type == "server_error"
        assert page(served)['palate_requests_total{model="tiny",status="500"}'] == 1
        assert served.said[-1].startswith("ZeroDivisionError in ")
        chat, scheduler = served.running.app.chat, served.running.scheduler
        assert chat is not None
        assert scheduler is not None
        chat.open += 2
        with pytest.raises(openai.RateLimitError, match="2 requests are here") as refused:
            served.say()
        assert refused.value.code == "queue_full"
        chat.open -= 2
        scheduler.close()
        scheduler.join(20)
        health = httpx.get(served.url.removesuffix("/v1") + "/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
        with pytest.raises(openai.InternalServerError, match="start it again"):
            served.say()


def test_feedback_while_the_models_load() -> None:
    app = App(Metrics(), api_key=None, loopback=False, say=print)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    scope = {"type": "http", "path": "/v1/feedback", "method": "POST", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["error"]["code"] == "loading"


def test_an_adapter_of_other_weights_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1)

    def load(known: str | None) -> int:
        entry = Entry("a", str(tiny), adapter=folder, base_sha256=known)
        return len(open_models([entry], Settings(memory=10**6), print))

    assert load(weights_hash(tiny_model())) == load(None) == 2
    with pytest.raises(ValueError, match="other weights than when a was trained"):
        load(weights_hash(tiny_model(seed=9)))


def test_kernels_are_bounded_before_a_model_is_loaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both caches are read once, at the first product."""
    went: list[str] = []
    monkeypatch.setattr(models, "bound_kernels", lambda: went.append("bounded"))
    open_models([Entry("tiny", str(tiny))], Settings(memory=10**6), went.append)
    assert went == ["bounded", f"loading {tiny} …"]
