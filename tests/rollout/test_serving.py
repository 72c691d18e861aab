"""A server that samples: it gets the adapter before each rollout, and its outages cost nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.judge.chat_server import ChatServer, Handler, chat_server, status
from tests.rollout.tasks import STEPS, make_task
from tests.train.tasks import train

from palate.config import ConfigError
from palate.train.metrics import read_metrics
from palate.train.task import SourceStopped


def answers(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer k is k tokens of one kind, one of another and an end, each with log-prob −1.5."""
    end = asked["stop_token_ids"][0]
    ids = [[97 + k] * k + [49, end] for k in range(asked["n"])]
    return [
        {
            "index": k,
            "text": "",
            "finish_reason": "stop",
            "token_ids": one,
            "logprobs": {"token_logprobs": [-1.5] * len(one)},
        }
        for k, one in enumerate(ids)
    ]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as found:
        found.adapters = []  # type: ignore[attr-defined]

        def act(handler: Handler) -> None:
            if handler.path.endswith("load_lora_adapter"):
                file = Path(handler.asked["lora_path"]) / "adapter_model.safetensors"
                found.adapters.append(load_file(file))  # type: ignore[attr-defined]
                handler.send(200, b"ok", "text/plain")
                return
            body = {"object": "text_completion", "choices": answers(handler.asked)}
            handler.send(200, json.dumps(body).encode())

        found.otherwise = act
        yield found


def served(server: ChatServer, **more: Any) -> dict[str, Any]:
    where = {"url": server.url, "model": "base", "timeout": 5.0, "retries": 0, **more}
    return {
        "adapter": {"kind": "lora"},
        "rollout": {"server": where, "max_new_tokens": 8},
        "train": {"eval_every": 0, "batch_size": 9},
    }


def test_it_draws_with_the_adapter_as_it_is_then(server: ChatServer, tmp_path: Path) -> None:
    task = make_task(tmp_path / "run", "grpo", **served(server))
    assert train(task).steps == STEPS
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    rollouts = [line for line in lines if line["kind"] == "rollout"]
    assert len(rollouts) == STEPS
    # one push before each rollout, and one for the measurements before the first and at the end
    assert len(server.adapters) == STEPS + 2  # type: ignore[attr-defined]
    first, last = server.adapters[1], server.adapters[-1]  # type: ignore[attr-defined]
    assert any(not first[name].equal(last[name]) for name in first), "it was trained meanwhile"
    assert {line["staleness"] for line in rollouts} == {0}
    assert all(line["mismatch"] > 0.1 for line in rollouts), "the server's log-probs are made up"
    drawn = [r for r in server.requests if "prompt" in r]
    assert {request["model"] for request in drawn} == {"palate"}
    text = (tmp_path / "run" / "rollouts" / "step-1.jsonl").read_text(encoding="utf-8")
    told = json.loads(text.splitlines()[0])["answers"]
    assert [(a["tokens"], a["finished"]) for a in told] == [(2, True), (3, True), (4, True)]


def test_a_server_that_goes_away_ends_the_run_with_what_there_is(
    server: ChatServer, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    normal = server.otherwise
    count = 0

    def act(handler: Handler) -> None:
        nonlocal count
        count += "prompt" in handler.asked
        (status(503, "gone") if count > 8 else normal)(handler)

    server.otherwise = act
    with pytest.raises(SourceStopped, match="the sampler stopped in step 3: "):
        train(make_task(folder, "grpo", **served(server)))
    assert (folder / "checkpoints" / "step-2").is_dir()
    server.otherwise = normal
    again = make_task(folder, "grpo", continues=True, **served(server))
    assert train(again, resume=True).steps == STEPS


def test_what_it_cannot_do_is_refused(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nash-md samples from the mixture too"):
        make_task(tmp_path / "a", "nash-md", **served(server))
    full = {**served(server), "adapter": {"kind": "full"}}
    with pytest.raises(ConfigError, match="needs an adapter that can be pushed"):
        make_task(tmp_path / "b", "grpo", **full)
