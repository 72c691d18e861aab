"""Time `palate serve`: 16 requests at once against one by one, a stream against `generate`.

    python benchmarks/serving.py                 # rounds that alternate, medians and ratios
    python benchmarks/serving.py --rounds 3 --tokens 32
    python benchmarks/serving.py --guard runs/guard   # what asking the guard adds, and nothing else

SmolLM2-135M-Instruct in fp32, through HTTP: the server runs in this process, and its clients in
another. Prompts are different questions behind one short system prompt; every answer is drawn at
temperature 1 and has exactly `--tokens` tokens, because no token ends it (the end tokens are taken
from the renderer). What is compared takes turns within a round, so that what else the machine does
falls on all of it alike; the ratios are of the same round, and the medians over rounds. Beside the
clock stands the time that the server's process worked, which says more on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from palate.machine import calm_threads, tune_allocator

calm_threads()  # before torch is imported
tune_allocator()

import torch  # noqa: E402

from palate.machine import threads  # noqa: E402
from palate.model.load import SMOLLM2, load  # noqa: E402
from palate.serve.server import Running  # noqa: E402
from palate.serve.settings import Entry, Settings  # noqa: E402

SYSTEM = "You are a support agent of a web shop. Be brief."
TOPICS = ("a late parcel", "a broken cup", "a refund", "an invoice", "a lost password", "a size")


@dataclass(frozen=True)
class Spent:
    """Tokens for each second on the clock, and for each that the processor worked here."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:.1f}/{self.processor:.1f}"


def messages(number: int) -> list[dict[str, str]]:
    """The question of one client."""
    said = f"Customer {number} asks about {TOPICS[number % len(TOPICS)]}. What do you say?"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": said}]


def client(orders: Any, results: Any) -> None:
    """A process that asks: the server's URL, then (first number, requests, at once, tokens).

    It answers with seconds and tokens.
    """
    import httpx

    url = orders.get()

    async def ask(number: int, tokens: int, web: httpx.AsyncClient) -> int:
        body = {
            "model": SMOLLM2,
            "messages": messages(number),
            "max_tokens": tokens,
            "seed": number,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        used = 0
        async with web.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
            assert reply.status_code == 200, await reply.aread()
            async for line in reply.aiter_lines():
                if '"completion_tokens":' in line:
                    used = int(line.split('"completion_tokens":')[1].split(",")[0])
        return used

    async def all_of(first: int, count: int, at_once: int, tokens: int) -> int:
        free = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(timeout=600) as web:

            async def one(number: int) -> int:
                async with free:
                    return await ask(number, tokens, web)

            return sum(await asyncio.gather(*(one(first + k) for k in range(count))))

    while (order := orders.get()) is not None:
        begin = time.perf_counter()
        used = asyncio.run(all_of(*order))
        results.put((time.perf_counter() - begin, used))


class Server:
    """The server in a thread, on the weights that it loads."""

    def __init__(self, guard: str | None) -> None:
        settings = Settings(port=0, db=None, guard=guard)
        self.running = Running([Entry(SMOLLM2, SMOLLM2)], settings, say)
        self.loop: Any = None
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()
        while self.running.app.state != "ready":
            time.sleep(0.1)
        served = self.running.app.models[SMOLLM2]
        served.renderer.end_ids = frozenset()  # every answer is as long as asked

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.running.run()

    def end(self) -> None:
        """As a signal does."""
        self.loop.call_soon_threadsafe(self.running.ask)


def generate(loaded: Any, number: int, tokens: int) -> Spent:
    """transformers' own for one answer, rendering included."""
    processor = time.process_time()
    begin = time.perf_counter()
    row = loaded.tokenizer.apply_chat_template(
        messages(number), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        found = loaded.model.generate(
            **row,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            eos_token_id=None,
            pad_token_id=0,
        )
    assert found.shape[1] - row["input_ids"].shape[1] == tokens
    spent = time.process_time() - processor
    return Spent(tokens / (time.perf_counter() - begin), tokens / spent)


def guarding(running: Running) -> None:
    """What the metrics say of the guard."""
    for metric in running.metrics.registry.collect():
        for sample in metric.samples:
            if sample.name in {"palate_guard_seconds_sum", "palate_guard_seconds_count"}:
                say(f"{sample.name} {sample.labels['kind']} {sample.value:.2f}")
            if sample.name in {"palate_request_seconds_sum", "palate_request_seconds_count"}:
                say(f"{sample.name} {sample.value:.2f}")
    say(f"load {os.getloadavg()[0]:.1f}")


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def compare(what: str, ours: list[Spent], others: list[Spent]) -> None:
    """The median ratio on the clock and of the processor."""
    pairs = list(zip(ours, others, strict=True))
    clock = statistics.median(a.clock / b.clock for a, b in pairs)
    processor = statistics.median(a.processor / b.processor for a, b in pairs)
    say(f"{what}: {clock:.2f} / {processor:.2f}")


def main() -> None:
    """Rounds of: one at a time, 16 at once, one stream, `generate`."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--at-once", type=int, default=16)
    options.add_argument("--guard")
    chosen = options.parse_args()
    context = multiprocessing.get_context("fork")  # before there are threads
    orders, results = context.Queue(), context.Queue()
    context.Process(target=client, args=(orders, results), daemon=True).start()
    server = Server(chosen.guard)
    orders.put(server.running.url)

    def ask(first: int, count: int, at_once: int) -> Spent:
        processor = time.process_time()
        orders.put((first, count, at_once, chosen.tokens))
        seconds, used = results.get()
        assert used == count * chosen.tokens, (used, count)
        return Spent(used / seconds, used / (time.process_time() - processor))

    ask(0, 1, 1)
    if chosen.guard is not None:
        ask(1000, 4 * chosen.rounds, 1)
        guarding(server.running)
        return
    loaded = load(SMOLLM2)
    generate(loaded, 0, 8)
    found: dict[str, list[Spent]] = {"serial": [], "batch": [], "stream": [], "generate": []}
    for number in range(chosen.rounds):
        first = 1000 * (number + 1)
        found["serial"].append(ask(first, 4, 1))
        found["batch"].append(ask(first + 100, chosen.at_once, chosen.at_once))
        found["stream"].append(ask(first + 200, 1, 1))
        found["generate"].append(generate(loaded, first + 300, chosen.tokens))
        row = "  ".join(f"{name} {values[-1]}" for name, values in found.items())
        say(f"round {number + 1}: {row}  load {os.getloadavg()[0]:.1f}")
    say("tokens a second on the clock / of the processor; medians of the rounds' ratios:")
    compare(f"{chosen.at_once} at once against one by one", found["batch"], found["serial"])
    compare("a stream against generate", found["stream"], found["generate"])
    say(f"{threads()} threads")
    orders.put(None)
    server.end()


if __name__ == "__main__":
    main()
