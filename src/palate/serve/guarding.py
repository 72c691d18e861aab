"""The guard around the model: prompts before they are answered, answers before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from palate.guard.check import Guard, Verdict
from palate.records import Message
from palate.serve.metrics import Metrics
from palate.serve.request import Wanted

REFUSAL = "I can't help with that."
"""What stands in the place of what the guard blocks; its finish reason is `content_filter`."""


class Gate:
    """Asks the guard in a thread of its own, one question at a time, and measures it."""

    def __init__(self, guard: Guard, metrics: Metrics) -> None:
        self._guard, self._metrics = guard, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guard")
        self._kinds = frozenset(k for k, rows in guard.saved.kinds.items() if rows)

    async def admits(self, wanted: Wanted) -> bool:
        """Whether the prompt is one to answer."""
        if "prompt" not in self._kinds:
            return True

        def ask() -> list[Verdict]:
            return [self._guard.check_prompt(wanted.messages, wanted.tools)]

        return (await self._ask("prompt", ask))[0]

    async def sends(self, wanted: Wanted, answers: Sequence[str | Sequence[Message]]) -> list[bool]:
        """Which of the answers are ones to send."""
        if "answer" not in self._kinds:
            return [True] * len(answers)
        pairs = [(wanted.messages, answer) for answer in answers]
        return await self._ask("answer", lambda: self._guard.check_answers(pairs, wanted.tools))

    async def _ask(self, kind: str, ask: Callable[[], list[Verdict]]) -> list[bool]:
        begin = perf_counter()
        verdicts = await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        self._metrics.guard.labels(kind).observe(perf_counter() - begin)
        good = [not verdict.unsafe for verdict in verdicts]
        self._metrics.blocks.labels(kind).inc(good.count(False))
        return good

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
