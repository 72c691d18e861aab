"""Memory over a long time: two thousand optimizer steps, and two thousand requests to a server.

What is fitted is a line through the resident memory of the second half, a point a step or request,
by least squares; in the first half, pools and caches fill. The server has a process of its own, so
that its clients' memory is not in its line.

Requests repeat a few hundred words: the tokenizer remembers how it cuts a word, up to ten thousand
of them, about 300 bytes each. With a new word in each request that is what the line shows, until
its memory is full.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

FAULT = "2,000 steps of training, and 2,000 requests to a server"
BOUND = 1.0
HOLDS = f"resident memory grows by less than {BOUND:g} KiB a step or request"
COUNT = 2_000
AT_ONCE = 8
WORDS = 97  # no factor in common with the lengths of requests and answers


def every() -> int:
    """The training, and the server."""
    return 2


def trial(number: int, folder: Path, count: int = COUNT, bound: float = BOUND) -> dict[str, object]:
    """Train (1) or serve (2), `count` times; at most `bound` KiB more a time."""
    points = _training(folder, count) if number == 1 else _serving(folder, count)
    assert len(points) == count, f"{len(points)} points"
    late = np.array(points[count // 2 :]) / 1024
    slope = float(np.polyfit(np.arange(len(late)), late, 1)[0])
    saw = {
        "what": "steps" if number == 1 else "requests",
        "count": count,
        "KiB each": round(slope, 4),
        "MiB at the half": round(float(late[0]) / 1024, 1),
        "MiB at the end": round(float(late[-1]) / 1024, 1),
    }
    assert slope < bound, f"memory grows: {saw}"
    return saw


def resident(process: int | str = "self") -> int:
    """Bytes of a process in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _training(folder: Path, count: int) -> list[int]:
    from tests.train.tasks import make_task

    from palate.train.loop import run_loop
    from palate.train.task import Watcher

    points: list[int] = []
    rounds = {"epochs": 1.0 * count, "max_steps": count}
    task = make_task(folder, **rounds, save_every=50, eval_every=100)
    watch = Watcher(on_step=lambda *_: points.append(resident()))
    run_loop(task, resume=False, watch=watch)
    return points


def _serving(folder: Path, count: int) -> list[int]:
    """The server's memory after each request, which has a length of its own."""
    import httpx

    points: list[int] = []
    context = multiprocessing.get_context("spawn")
    address, stop = context.Queue(), context.Event()
    server = context.Process(target=_server, args=(folder, address, stop))
    server.start()
    try:
        url, process = address.get(timeout=300)

        async def ask(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
            for number in numbers:
                text = f"question {number % WORDS} {'x' * (number % 40)}"
                messages = [{"role": "user", "content": text}]
                body = {"model": "tiny", "messages": messages, "max_tokens": 1 + number % 12}
                found = await client.post("chat/completions", json=body, timeout=300)
                assert found.status_code == 200, found.text
                points.append(resident(process))

        async def all_of_them() -> None:
            numbers = iter(range(count))
            async with httpx.AsyncClient(base_url=url) as client:
                await asyncio.gather(*(ask(client, numbers) for _ in range(AT_ONCE)))

        asyncio.run(all_of_them())
    finally:
        stop.set()
        server.join(60)
        server.kill()
    return points


def _server(folder: Path, address: Queue[tuple[str, int]], stop: Event) -> None:
    """Serves until it is told to stop; says its address and its process."""
    from tests.serve.conftest import Served
    from tests.tiny import save_tiny

    from palate.machine import calm_threads, fast_bf16, tune_allocator
    from palate.serve.settings import Entry

    calm_threads()
    tune_allocator()
    model = save_tiny(folder / "model")
    with Served([Entry("tiny", str(model))], bf16=fast_bf16(), rows=AT_ONCE) as served:
        address.put((served.url, os.getpid()))
        stop.wait()
