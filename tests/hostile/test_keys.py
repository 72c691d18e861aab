"""A key is sent to the server that it is for, and is found nowhere else.

Each flow has a key of its own in the environment, servers that repeat it in their errors, and
`--debug`, which prints tracebacks. Afterwards every file that was written, and all that was said,
is searched: plain, as base64 of HTTP's Basic, and as a URL spells it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import pytest
from tests.cli.conftest import write_pairs
from tests.judge.chat_server import ChatServer, Handler, answers_in, chat_server, says
from tests.serve.conftest import Served
from tests.web.capture.conftest import Program
from tests.web.capture.upstream import Asked, Provider
from typer.testing import CliRunner

from palate.cli.main import app
from palate.records import Message
from palate.serve.settings import Entry
from palate.ui.arena.asking import Endpoint, Manner, Piece, ask

CANARY = "sk-canary-8f3b+q/Zw=="
NAMES = (
    "PALATE_TEST_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "PGPASSWORD",
)


class Flow:
    """Runs commands in a folder, keeps what they said, and searches both."""

    def __init__(self, home: Path, keys: dict[str, str]) -> None:
        self.home, self.keys, self.said = home, keys, list[str]()

    def palate(self, *words: object, code: int = 0) -> str:
        """A command with `--debug`, with everything that it said; checks its exit code."""
        result = CliRunner().invoke(app, [*(str(word) for word in words), "--debug"])
        said = result.output + result.stderr
        self.said.append(said + "".join(str(part) for part in [result.exception]))
        assert result.exit_code == code, said
        return said

    def search(self) -> None:
        """Fail where a key is in a file or was said; something has to be there."""
        files = [path for path in sorted(self.home.rglob("*")) if path.is_file()]
        assert files
        texts = {str(path.relative_to(self.home)): path.read_bytes() for path in files}
        texts |= {f"output {n}": text.encode() for n, text in enumerate(self.said)}
        for where, raw in texts.items():
            for name, key in self.keys.items():
                for spelled in spellings(key):
                    assert spelled not in raw, f"the key of {name} is in {where}"


def spellings(key: str) -> list[bytes]:
    """The key as it may stand in a file."""
    basic = base64.b64encode(f"user:{key}".encode())[8:-4]  # whatever stands around it
    escaped = json.dumps(key)[1:-1].encode()
    return [key.encode(), quote(key, safe="").encode(), escaped, basic, key.encode("utf-16-le")]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    """Every variable that may hold a key holds one; the search is at the end of each test."""
    keys = {name: f"{CANARY}{number}" for number, name in enumerate(NAMES)}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PALATE_CACHE", str(home / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(home)
    made = Flow(home, keys)
    yield made
    made.search()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running_now:
        yield running_now


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    for number, spelled in enumerate(spellings(CANARY)):
        home = tmp_path / str(number)
        home.mkdir()
        (home / "log").write_bytes(b"before " + spelled + b" after")
        with pytest.raises(AssertionError, match=r"the key of K is in log"):
            Flow(home, {"K": CANARY}).search()
    said = Flow(tmp_path, {"K": "other"})
    said.said.append("an other word")
    with pytest.raises(AssertionError, match=r"in output 0"):
        said.search()


def shown_by(server: ChatServer) -> str:
    """The key that the last request showed."""
    return server.headers[-1].get("Authorization", "").removeprefix("Bearer ")


def repeating(status: int) -> Callable[[Handler], None]:
    """An error that repeats the key, in its words and in a header."""

    def act(handler: Handler) -> None:
        key = handler.headers["Authorization"]
        body = {"error": {"message": f"Incorrect API key provided: {key}. You sent {key}"}}
        handler.send(status, json.dumps(body).encode(), x_key=key)

    return act


def garbage(handler: Handler) -> None:
    """What is no answer, and begins with the key."""
    handler.send(200, handler.headers["Authorization"].removeprefix("Bearer ").encode())


def said_in_the_answer(handler: Handler) -> None:
    """An answer of the right form whose text is the key."""
    key = handler.headers["Authorization"].removeprefix("Bearer ")
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": f"key {key}"}}
    handler.send(200, json.dumps({"choices": [choice]}).encode())


def judged(server: ChatServer, *more: str) -> list[str]:
    place = {"url": server.url, "model": "m", "retries": 0, "key_env": "PALATE_TEST_KEY"}
    return ["kind=llm", *(f"server.{k}={v}" for k, v in place.items()), *more]


def test_a_judge(flow: Flow, server: ChatServer) -> None:
    write_pairs(flow.home / "pairs.jsonl")
    flow.palate("judge", "pairs.jsonl", *judged(server, "server.cache=replies.db"), "--json")
    assert shown_by(server) == flow.keys["PALATE_TEST_KEY"]
    assert (flow.home / "replies.db").is_file()


@pytest.mark.parametrize("act", [repeating(401), repeating(400), repeating(302), garbage])
def test_a_judge_that_repeats_the_key(
    flow: Flow, server: ChatServer, act: Callable[[Handler], None]
) -> None:
    server.otherwise = act
    write_pairs(flow.home / "pairs.jsonl")
    more = ["server.max_failures=1", "server.cache=replies.db"]
    flow.palate("judge", "pairs.jsonl", *judged(server, *more), code=2)
    assert shown_by(server) == flow.keys["PALATE_TEST_KEY"]


def test_a_judge_whose_answer_is_the_key(flow: Flow, server: ChatServer) -> None:
    server.otherwise = said_in_the_answer
    write_pairs(flow.home / "pairs.jsonl")
    more = ["server.max_failures=1", "server.cache=replies.db"]
    flow.palate("judge", "pairs.jsonl", *judged(server, *more), code=2)


@pytest.mark.parametrize("part", ["user:{}@", "{}@"])
def test_a_key_in_a_url_is_refused_and_not_repeated(flow: Flow, part: str) -> None:
    write_pairs(flow.home / "pairs.jsonl")
    key = flow.keys["PALATE_TEST_KEY"]
    url = f"http://{part.format(quote(key, safe=''))}127.0.0.1:9/v1"
    flow.palate("judge", "pairs.jsonl", "kind=llm", f"server.url={url}", "server.model=m", code=2)
    url = f"http://127.0.0.1:9/v1?key={quote(key, safe='')}"
    flow.palate("judge", "pairs.jsonl", "kind=llm", f"server.url={url}", "server.model=m", code=2)


@pytest.mark.parametrize("url", ["postgresql://me:{}@h/d", "postgresql://h/d?password={}"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_password_in_a_recipe_is_refused(
    flow: Flow, url: str, listed: bool, tmp_path: Path
) -> None:
    place = url.format(quote(flow.keys["PGPASSWORD"], safe=""))
    path = tmp_path / "recipe.yaml"  # beside the folder that is searched
    path.write_text(json.dumps({"model": "m", "data": [place] if listed else place}))
    assert "PGPASSWORD or ~/.pgpass" in flow.palate("train", path, code=2)
    (flow.home / "kept").touch()


def recipe(flow: Flow, model: Path, **more: Any) -> Path:
    body = {
        "name": "desk",
        "model": str(model),
        "data": {"path": str(write_pairs(flow.home / "pairs.jsonl")), "heldout": 0.2},
        "adapter": {"rank": 2},
        "train": {"batch_size": 4, "max_steps": 1, "precision": "fp32", "eval_every": 0},
        "evaluate": {"samples": 1, "max_new_tokens": 2},
    }
    for name, value in more.items():
        body[name] = {**body.get(name, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    path = flow.home / "recipe.yaml"
    path.write_text(json.dumps(body))
    return path


def test_a_run_with_trackers(flow: Flow, model: Path) -> None:
    """environment.json, plan.json, checkpoints, report, and the trackers' own files."""
    pytest.importorskip("tensorboard")
    trackers = {"trackers": ["tensorboard"]}
    flow.palate("train", recipe(flow, model, train={**trackers, "save_every": 1}))
    assert (flow.home / "runs" / "desk" / "environment.json").is_file()
    flow.palate("train", flow.home / "recipe.yaml", "model=somebody/nothing", "name=b", code=2)


def later_in_the_alphabet(handler: Handler) -> None:
    """A judge whose word does not depend on which answer it saw first."""
    answers = answers_in(handler.asked)
    says("A" if answers["answer-A"] > answers["answer-B"] else "B")(handler)


def test_a_run_on_own_samples_with_a_judge(flow: Flow, model: Path, server: ChatServer) -> None:
    place = {"url": server.url, "model": "m", "retries": 0, "key_env": "PALATE_TEST_KEY"}
    judge = {"kind": "llm", "server": {**place, "cache": str(flow.home / "replies.db")}}
    rollout = {"judge": judge, "prompts": 2, "answers": 2, "max_new_tokens": 2}
    path = recipe(flow, model, method={"name": "online-dpo"}, rollout=rollout)
    server.otherwise = later_in_the_alphabet
    flow.palate("train", path)
    assert shown_by(server) == flow.keys["PALATE_TEST_KEY"]
    server.otherwise = repeating(401)
    flow.palate("train", path, "name=again", "rollout.judge.server.model=other", code=2)


def test_a_sampling_server_that_repeats_the_key(
    flow: Flow, model: Path, server: ChatServer
) -> None:
    server.otherwise = repeating(401)
    place = {"url": server.url, "model": "m", "retries": 0, "key_env": "PALATE_TEST_KEY"}
    rollout = {"server": place, "judge": {"kind": "length", "most": 5}, "prompts": 2, "answers": 2}
    flow.palate("train", recipe(flow, model, method={"name": "grpo"}, rollout=rollout), code=2)
    assert shown_by(server) == flow.keys["PALATE_TEST_KEY"]


def test_the_arena(flow: Flow, server: ChatServer) -> None:
    key = flow.keys["PALATE_TEST_KEY"]
    endpoint = Endpoint(server.url, "m", key)
    for act in (repeating(401), repeating(500), garbage):
        server.otherwise = act
        told: list[Piece] = []
        asyncio.run(ask(endpoint, [Message("user", "a")], Manner(seconds=20), told.append))
        flow.said.append(repr(told))
        assert shown_by(server) == key
    write_pairs(flow.home / "pairs.jsonl")


async def echo(asked: Asked, send: Callable[..., Any]) -> None:
    """A provider that repeats the key that it was shown."""
    key = asked.header("authorization") or ""
    message = {"role": "assistant", "content": f"you sent {key}"}
    body = {"id": "x", "object": "chat.completion", "model": "m", "choices": []}
    body["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    raw = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"x-key", key.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


def test_the_capture_proxy(flow: Flow) -> None:
    key = flow.keys["OPENAI_API_KEY"]
    with Provider(echo) as provider:
        proxy = Program(flow.home, provider.url)
        headers = {"authorization": f"Bearer {key}", "x-api-key": key}
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        for query in ("", f"?key={quote(key, safe='')}"):
            answer = proxy.client.post(f"/v1/chat/completions{query}", json=body, headers=headers)
            assert key in answer.text  # who asks is told what the provider said
        flow.said.append(json.dumps(proxy.health()))
        flow.said.append(json.dumps(proxy.stop()))
        assert provider.asked[-1].header("authorization") == f"Bearer {key}"
    assert (flow.home / "palate.db").is_file()


def test_serving(flow: Flow, model: Path) -> None:
    key = flow.keys["PALATE_TEST_KEY"]
    database = str(flow.home / "palate.db")
    with Served([Entry("tiny", str(model))], api_key=key, db=database, max_tokens=4) as served:
        served.say("hello")
        stranger = openai.OpenAI(base_url=served.url, api_key=f"wrong-{key}", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
        flow.said.append(str(refused.value))
        stranger.close()
    flow.said.extend(served.said)
    assert Path(database).is_file()
