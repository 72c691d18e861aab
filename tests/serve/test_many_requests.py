"""A thousand requests, many of which leave early: nobody's answer is another's, nothing leaks."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Served, until
from tests.serve.test_conformance import expected

from palate.serve.settings import Entry

pytestmark = pytest.mark.slow

REQUESTS, AT_ONCE, KINDS = 1000, 48, 40


def body(kind: int, **more: Any) -> dict[str, Any]:
    """One of the kinds: each has a prompt, a seed and a length of its own."""
    text = f"question {kind} {'x' * (kind % 7 * 5)}"
    messages = [{"role": "user", "content": text}]
    return {"model": "tiny", "messages": messages, "seed": kind, "max_tokens": 4 + kind, **more}


def answer(kind: int) -> str:
    """What the same request gets alone."""
    text = body(kind)["messages"][0]["content"]
    return expected(text, seed=kind, max_new_tokens=4 + kind)[0][0]


async def one(client: httpx.AsyncClient, chance: random.Random, number: int) -> Any:
    """(kind, text), or None for one that left: before, during or instead of its answer."""
    kind, leaves, stream = number % KINDS, chance.random() < 0.4, chance.random() < 0.7
    asked = body(kind, stream=stream)
    if not stream:
        try:
            limit = chance.uniform(0.001, 0.2) if leaves else 300
            found = await client.post("chat/completions", json=asked, timeout=limit)
        except httpx.TimeoutException:
            assert leaves
            return None
        return kind, found.json()["choices"][0]["message"]["content"]
    parts, most = [], chance.randint(0, 12) if leaves else 10**9
    async with client.stream("POST", "chat/completions", json=asked, timeout=300) as reply:
        assert reply.status_code == 200
        async for line in reply.aiter_lines():
            if len(parts) >= most:
                return None
            if line.startswith("data: {"):
                parts.append(httpx.Response(200, content=line[6:]).json())
    texts = [choice["delta"].get("content") or "" for part in parts for choice in part["choices"]]
    return kind, "".join(texts)


async def all_of_them(url: str) -> list[Any]:
    chance, free = random.Random(0), asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, limits=limits) as client:

        async def in_turn(number: int) -> Any:
            async with free:
                return await one(client, chance, number)

        return await asyncio.gather(*(in_turn(number) for number in range(REQUESTS)))


def test_a_thousand_requests_with_disconnects(tiny: Path) -> None:
    with Served([Entry("tiny", str(tiny))], rows=16) as served:
        found = asyncio.run(all_of_them(served.url))
        scheduler = served.running.scheduler
        assert scheduler is not None
        until(lambda: not (scheduler.running or scheduler.waiting), "the end of all answers")
        chat = served.running.app.chat
        assert chat is not None
        until(lambda: chat.open == 0, "the end of all requests")
        (lane,) = scheduler._lanes
        assert (lane._schedule.answers, lane._schedule.residents) == ([], [])
        assert not lane._schedule.queued
        lane.rest()  # what an idle server does
        assert lane.bytes == 0
        assert served.loop is not None
        until(lambda: len(asyncio.all_tasks(served.loop)) <= 2, "the end of all tasks")
        page = httpx.get(served.url.removesuffix("/v1") + "/metrics").text
    answers = {kind: answer(kind) for kind in range(KINDS)}
    whole = [one for one in found if one is not None]
    assert [(kind, text) for kind, text in whole if text != answers[kind]] == []
    assert len(whole) >= 0.5 * REQUESTS
    assert len(found) - len(whole) >= 0.1 * REQUESTS
    assert len(set(answers.values())) == KINDS
    left = next(line for line in page.splitlines() if line.startswith("palate_disconnects_total"))
    assert float(left.split()[1]) > 0.05 * REQUESTS
