"""Many questions to one chat server: retries, limits, a cache, several at once."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from palate.judge.crew import in_threads
from palate.judge.errors import JudgeStopped
from palate.judge.limits import Limits, Spent
from palate.judge.orders import Failed
from palate.judge.replies import Replies
from palate.judge.verdicts import NoVerdict
from palate.judge.wire import Again, Reply, Unusable, Wire
from palate.records import Message, digest
from palate.sections import ServerConfig

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds
Body = Mapping[str, Any]
T = TypeVar("T")


class Server:
    """Asks one server; `spent` says how much that took so far.

    Raises `ValueError` where the environment lacks the key.
    """

    def __init__(self, config: ServerConfig) -> None:
        key = os.environ.get(config.key_env, "").strip() if config.key_env else None
        if config.key_env and not key:
            raise ValueError(
                f"the judge's key is to stand in the variable {config.key_env}: set it"
            )
        self.config = config
        self._stopped = threading.Event()
        self._limits = Limits(config, self._stopped.wait)
        self._replies = Replies(config.cache) if config.cache else None
        self._wire = Wire(config, key)

    @property
    def spent(self) -> Spent:
        """What was asked so far."""
        return self._limits.spent

    def close(self) -> None:
        """Close connections and the cache; questions under way end."""
        self._stopped.set()
        self._wire.close()
        if self._replies is not None:
            self._replies.close()

    def body(self, messages: Sequence[Message], **more: Any) -> Body:
        """A request at temperature 0; a field that `extra` sets to null is left out."""
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [message.to_dict() for message in messages],
            "temperature": 0,
            "max_tokens": self.config.max_tokens,
            **more,
            **self.config.extra,
        }
        return {name: value for name, value in body.items() if value is not None}

    def ask(
        self, bodies: Sequence[Body], read: Callable[[Reply], T], *, whole: bool = True
    ) -> list[T | Failed]:
        """What `read` makes of each reply, in order, or why there is none.

        A reply that was cut off or refused is a failure, unless it need not be `whole`. `read`
        raises `NoVerdict` for a reply that says nothing, which is a failure and not kept
        in the cache. Raises `JudgeStopped` when the server or a limit allows no more.
        """
        if self._stopped.is_set():
            raise JudgeStopped(f"the judge at {self.config.url} is closed")
        try:
            return in_threads(
                lambda place: self._one(bodies[place], read, whole),
                len(bodies),
                self.config.concurrency,
            )
        except BaseException:
            self._stopped.set()  # those who wait for their turn give up
            raise

    def _one(self, body: Body, read: Callable[[Reply], T], whole: bool) -> T | Failed:
        key = digest({"url": self.config.url, "body": body})
        kept = self._replies.get(key) if self._replies is not None else None
        if kept is not None:
            self._limits.cached()
            return read(kept)
        reply: Reply | None = None
        try:
            reply = self._with_retries(body)
            if whole and reply.problem is not None:
                raise NoVerdict(reply.problem)
            found = read(reply)
        except (Unusable, Again, NoVerdict) as error:
            if not self._stopped.is_set():
                self._failed(str(error))
            return Failed(str(error), reply.text if reply is not None else None)
        except JudgeStopped:
            self._stopped.set()
            raise
        self._limits.answered()
        if self._replies is not None:
            self._replies.put(key, reply)
        return found

    def _failed(self, why: str) -> None:
        try:
            self._limits.failed(why)
        except JudgeStopped:
            self._stopped.set()
            raise

    def _with_retries(self, body: Body) -> Reply:
        """The reply; raises `Unusable`, or the last `Again` when there were enough of them."""
        size = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        until = math.inf
        for attempt in range(self.config.retries + 1):
            if self._stopped.is_set():
                raise Unusable("stopped")
            reserved = self._limits.admit(size, retry=attempt > 0)
            until = min(until, time.monotonic() + self.config.deadline)
            try:
                return self._once(body, reserved)
            except Again as error:
                delay = self._delay(attempt, error.after)
                late = time.monotonic() + delay > until
                if late or attempt == self.config.retries:
                    times = f" (asked {attempt + 1} times)" if attempt else ""
                    raise Again(f"{error}{times}") from error
                self._stopped.wait(delay)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, body: Body, reserved: float) -> Reply:
        reply: Reply | None = None
        try:
            reply = self._wire.post(body, self.config.timeout)
        finally:
            counts = (reply.tokens_in, reply.tokens_out) if reply is not None else (None, None)
            self._limits.count(reserved, *counts)
        return reply

    def _delay(self, attempt: int, after: float | None) -> float:
        """What the server asked for, or twice as long as the last time, with some chance in it."""
        if after is not None:
            if after > self.config.deadline:
                raise JudgeStopped(
                    f"{self.config.url} asks to wait {after:.0f} s, and the deadline is "
                    f"{self.config.deadline:g} s: go on later"
                )
            self._limits.pause(after)
            return after
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt) * random.uniform(0.75, 1.25)
