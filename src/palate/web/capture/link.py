"""The proxy's side of the pipe to the recorder: bounded, and never waited for.

A frame is held until the recorder says that it is done with it, so that a recorder that dies loses
nothing: the next one gets the frames again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from palate.config import ConfigError
from palate.web.capture.frames import END, Frame, pack
from palate.web.capture.settings import MIB, CaptureConfig

COMMAND = (sys.executable, "-m", "palate.web.capture.recorder")
_START = 120.0  # seconds until the recorder must be ready: a redaction may load a model
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0  # seconds between attempts to start it again
_DEATHS = 3  # at the first frame, after which that frame is given up
_GATHER = 0.02  # seconds for which frames gather, so that the recorder is woken once for many
_GRACE = 5.0  # seconds beyond the recorder's own limit, after which it is killed


@dataclass(slots=True)
class _Held:
    data: bytes
    durable: asyncio.Future[bool] | None


class Link:
    """Starts the recorder, starts it again when it dies, and hands frames over.

    Made inside a running event loop.
    """

    def __init__(
        self,
        config: CaptureConfig,
        say: Callable[[str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._config, self._say, self._command = config, say, command
        self._limit = config.queue * MIB
        self._held: deque[_Held] = deque()
        self._size = 0
        self._gathered: list[bytes] = []  # held, and not yet written to the present recorder
        self._done = 0  # frames that the present recorder is done with
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False
        self._losing = 0  # frames lost since there was last room
        self._taken: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # counts of recorders that died
        self._rejected_before: Counter[str] = Counter()
        self._last: dict[str, Any] = {}

    async def start(self) -> None:
        """Start the recorder; `ConfigError` if it cannot work with these settings."""
        self._following = asyncio.create_task(self._follow())
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), _START)
        except TimeoutError:
            raise ConfigError(f"the recorder was not ready after {_START:.0f} s") from None

    def put(self, frame: Frame, durable: asyncio.Future[bool] | None = None) -> bool:
        """Hand a frame over; False, and counted as lost, if the queue is full.

        `durable` is set to True once the frame is on a disk, and to False if it was lost.
        """
        data = pack(frame)
        self._taken[frame.meta["kind"]] += 1
        if self._size + len(data) > self._limit:
            if not self._losing:
                self._say("captures are lost: the recorder is behind and the queue is full")
            self._losing += 1
            self._taken["lost"] += 1
            return False
        if self._losing and self._size < self._limit / 2:
            self._say(f"the queue has room again; {self._losing} captures were lost")
            self._losing = 0
        self._held.append(_Held(data, durable))
        self._size += len(data)
        if not self._gathered:
            asyncio.get_running_loop().call_later(0 if durable else _GATHER, self._flush)
        self._gathered.append(data)
        return True

    def skip(self, reason: str) -> None:
        """Count an exchange of which nothing is kept."""
        self._taken[f"skipped {reason}"] += 1

    def counts(self) -> dict[str, Any]:
        """What happened to everything that passed, for `/palate/health`."""
        now = self._before + Counter(self._last.get("counts", {}))
        skipped = {n.partition(" ")[2]: c for n, c in self._taken.items() if n[:8] == "skipped "}
        rejected = self._rejected_before + Counter(self._last.get("rejected", {}))
        return {
            "captured": self._taken["exchange"],
            "feedback": self._taken["feedback"],
            "queued": len(self._held),
            "spilled": self._last.get("spilled", 0),
            "stored": now["stored"],
            "lost": self._taken["lost"] + now["lost"],
            "sampled_out": now["sampled_out"],
            "rejected": dict(rejected),
            "skipped": skipped,
            "store": self._last.get("store", "unknown"),
        }

    async def close(self) -> None:
        """Let the recorder finish, within its limit."""
        self._closing = True
        if self._following is None:
            return
        self._hang_up()
        try:
            await asyncio.wait_for(self._following, self._config.drain + _GRACE)
        except TimeoutError:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
        lost = len(self._held)
        self._taken["lost"] += lost
        self._release(lost, lambda _: False)

    async def _follow(self) -> None:
        """Keep a recorder running until the link is closed."""
        delay, deaths = _FIRST_DELAY, 0
        while True:
            self._done, self._last = 0, {"spilled": self._last.get("spilled", 0)}
            await self._run()
            self._refuse("the recorder ended before it was ready")
            if self._ready.exception() is not None or (self._closing and not self._held):
                return
            self._before += Counter(self._last.get("counts", {}))
            self._rejected_before += Counter(self._last.get("rejected", {}))
            if self._done:
                delay, deaths = _FIRST_DELAY, 1
            elif "done" in self._last:  # it was ready, and had got the first frame
                deaths += 1
            if deaths >= _DEATHS and self._held:
                self._taken["lost"] += 1
                self._say("a capture is lost: the recorder dies of it")
                self._release(1, lambda _: False)
                deaths = 0
            self._say(f"the recorder died; it starts again in {delay:.1f} s")
            await asyncio.sleep(delay)
            delay = min(_LONGEST_DELAY, delay * 2)

    async def _run(self) -> None:
        """One recorder, from its start to its end."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MIB,
            )
        except OSError as error:
            self._refuse(f"the recorder cannot be started: {error.strerror}")
            return
        self._process = process
        assert process.stdout is not None
        # What is sent again is taken singly: if a frame is deadly, those before it are done then.
        first = {"config": self._config.model_dump(mode="json"), "singly": len(self._held)}
        self._gathered = [pack(Frame(first)), *(held.data for held in self._held)]
        self._flush()
        if self._closing:
            self._hang_up()
        while line := await process.stdout.readline():
            self._hear(json.loads(line))
        self._process = None
        await process.wait()

    def _hang_up(self) -> None:
        """Tell the recorder that no more will come; one that is gone is told when it is back."""
        self._gathered.append(pack(Frame({"kind": END})))
        self._flush()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def _flush(self) -> None:
        """Write what has gathered; a recorder that is gone has its successor get it again."""
        process, data = self._process, b"".join(self._gathered)
        self._gathered.clear()
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(data)

    def _hear(self, said: dict[str, Any]) -> None:
        if "error" in said:
            if self._ready.done():
                self._say(said["error"])
            self._refuse(said["error"])
            return
        lost = set(said.pop("lost", ()))
        first = self._done + 1
        self._last = said
        self._done = said["done"]
        self._release(self._done - first + 1, lambda number: first + number not in lost)
        if said.get("ready") and not self._ready.done():
            self._ready.set_result(None)

    def _release(self, count: int, is_durable: Callable[[int], bool]) -> None:
        """The first `count` frames need not be held any longer."""
        for number in range(count):
            held = self._held.popleft()
            self._size -= len(held.data)
            if held.durable is not None and not held.durable.done():
                held.durable.set_result(is_durable(number))

    def _refuse(self, why: str) -> None:
        """Let `start` fail, if it still waits."""
        if not self._ready.done():
            self._ready.set_exception(ConfigError(why))
