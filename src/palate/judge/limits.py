"""How much may still be asked: requests, money, and how fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from palate.judge.errors import JudgeStopped
from palate.sections import ServerConfig

OVERHEAD = 64
"""Tokens that a chat template adds at most, for what a request may cost before it is counted."""


@dataclass(slots=True)
class Spent:
    """What was asked so far: requests with retries, replies from the cache, tokens and cost.

    `failures` are questions that got no verdict. `cost` is 0 where no prices are known.
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


class Limits:
    """Keeps requests within what the config allows; threads may share it."""

    def __init__(
        self,
        config: ServerConfig,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spent = Spent()
        self._config, self._wait, self._clock = config, wait, clock
        self._lock = threading.Lock()
        self._next = 0.0  # the earliest time of the next request
        self._reserved = 0.0  # what requests under way may cost at most
        self._in_a_row = 0

    def admit(self, size: int, retry: bool) -> float:
        """Wait until one more request of `size` bytes may go out; returns what is reserved for it.

        Raises `JudgeStopped` where a limit is reached. A token has at least one byte.
        """
        most = 0.0
        with self._lock:
            self._check()
            if self._config.max_cost is not None:
                most = self._config.cost(size + OVERHEAD, self._config.most_tokens)
                if self.spent.cost + self._reserved + most > self._config.max_cost:
                    raise JudgeStopped(
                        f"max_cost is {self._config.max_cost:g}, and {self.spent.cost:.4g} is "
                        "spent: the next request may cost more than is left; raise it to go on"
                    )
            self.spent.requests += 1
            self.spent.retries += retry
            self._reserved += most
            now = self._clock()
            start = max(now, self._next)
            if self._config.requests_per_minute is not None:
                self._next = start + 60 / self._config.requests_per_minute
        if start > now:
            self._wait(start - now)
        return most

    def _check(self) -> None:
        most = self._config.max_requests
        if most is not None and self.spent.requests >= most:
            raise JudgeStopped(f"max_requests is {most}, and all are spent: raise it to go on")

    def count(self, reserved: float, tokens_in: int | None, tokens_out: int | None) -> None:
        """A request is over: what it used instead of what was reserved for it.

        A request without a count may have been billed all the same, so that its reserve is spent.
        """
        with self._lock:
            self._reserved -= reserved
            self.spent.tokens_in += tokens_in or 0
            self.spent.tokens_out += tokens_out or 0
            if tokens_in is None or tokens_out is None:
                self.spent.cost += reserved
            elif self._config.price_in is not None and self._config.price_out is not None:
                self.spent.cost += self._config.cost(tokens_in, tokens_out)

    def pause(self, seconds: float) -> None:
        """No request goes out for so long: the server asked for it."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def cached(self) -> None:
        """A reply came from the cache."""
        with self._lock:
            self.spent.cached += 1

    def answered(self) -> None:
        """A question got a reply: the server works."""
        with self._lock:
            self._in_a_row = 0

    def failed(self, why: str) -> None:
        """A question got none; `JudgeStopped` after too many in a row."""
        with self._lock:
            self.spent.failures += 1
            self._in_a_row += 1
            if self._in_a_row >= self._config.max_failures:
                raise JudgeStopped(
                    f"{self._config.url} gave no usable reply to {self._in_a_row} questions in a "
                    f"row, the last time: {why}; what was judged before is kept"
                )
