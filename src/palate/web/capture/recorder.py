"""The recorder: a process that turns what passed into rows, on the disk and then in the store.

It is a process of its own because parsing, redaction and database drivers hold Python's lock for
milliseconds, and a token that waits for that lock is late. It reads frames from standard input and
answers on standard output, a line of JSON each time some are done: ``done`` frames since it
started, the numbers of those ``lost`` just now, and its counts. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any, BinaryIO

from palate.config import ConfigError
from palate.durable import hold, make_folder
from palate.progress import Plain
from palate.records import RecordError, Reject
from palate.web.capture.cleaning import Cleaner, load_redaction
from palate.web.capture.frames import END, Frame, Unpacker
from palate.web.capture.journal import Journal
from palate.web.capture.rows import arrivals_of, is_sampled, row_of
from palate.web.capture.settings import MIB, CaptureConfig
from palate.web.capture.storing import Sink, Storing

READ = 2**20  # bytes taken from the pipe at once
REJECTS = "rejected.jsonl"
_ORPHAN = 2.0  # seconds that a recorder without its proxy goes on to store: the next one waits
_NICE = 5
_TURN = 10.0  # seconds to wait for another recorder to leave the folder
_LONGEST_LIST = 2**24  # bytes of rejects, after which they are only counted


class Recorder:
    """Frames in, lines in the journal out; answers with what came of them."""

    def __init__(
        self, config: CaptureConfig, open_sink: Callable[[], Sink], answer: Callable[..., None]
    ) -> None:
        self._config, self._answer, self._say = config, answer, Plain().note
        self._folder = Path(config.spill)
        make_folder(self._folder, 0o700)
        self._cleaner = Cleaner(load_redaction(config.redact))
        self._lock = _hold(self._folder)
        self._journal = Journal(self._folder, config.spill_limit * MIB)
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._counting = Lock()  # what this thread and the storing thread both change
        self._done = 0
        self._storing = Storing(
            self._journal,
            open_sink,
            config.source,
            config.retention_days,
            self._reject,
            self._note,
            self.report,
        )

    def start(self) -> None:
        """Begin to store what an earlier process left."""
        if self._journal.torn:
            self._rejected["cut-off"] += self._journal.torn
        if self._journal.waiting:
            self._note(f"{self._journal.waiting} captures of before wait for the store")
        self._storing.start()
        self.report(ready=True)

    def take(self, frames: list[Frame]) -> None:
        """Write what these frames hold to the disk, in one go, and answer."""
        numbered = [(number, self._line(frame)) for number, frame in enumerate(frames, 1)]
        lines = [line for _, line in numbered if line is not None]
        lost: list[int] = []
        if lines:
            try:
                self._journal.append(lines)
            except OSError as error:
                lost = [self._done + number for number, line in numbered if line is not None]
                self._lost(len(lost), error)
        self.report(len(frames), lost)

    def report(self, done: int = 0, lost: Sequence[int] = (), **more: object) -> None:
        """Answer that so many frames more are done, and with all counts."""
        with self._counting:
            self._done += done
            self._answer(
                done=self._done,
                lost=lost,
                counts={**self._counts, **self._storing.counts},
                rejected=self._rejected,
                spilled=self._journal.waiting,
                store=self._storing.failure or "ok",
                **more,
            )

    def end(self, limit: float) -> None:
        """Store what is left, within the limit in seconds, and say the last counts."""
        self._storing.end(limit)
        self.report()

    def _line(self, frame: Frame) -> bytes | None:
        """The frame as a line of the journal; None if it is sampled out or of no use."""
        limit = self._config.max_body * MIB
        try:
            row = self._cleaner.clean(row_of(frame, limit), frame.meta.get("keys", ()))
            arrivals = arrivals_of(row, self._config.source, 0)
            line = json.dumps(row, ensure_ascii=False).encode()
        except RecordError as error:
            self._reject(0, error.reason, str(error))
            return None
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            # A shape that no provider documents; what it holds is not for a log.
            self._reject(0, "unreadable", f"the exchange cannot be read: {type(error).__name__}")
            return None
        if not arrivals or is_sampled(arrivals, self._config.sample):
            return line
        with self._counting:
            self._counts["sampled_out"] += 1
        return None

    def _lost(self, count: int, error: OSError) -> None:
        with self._counting:
            first = not self._counts["lost"]
            self._counts["lost"] += count
        if first:
            self._note(
                f"captures are lost, the spill folder {self._folder} cannot be written: "
                f"{error.strerror}; free some space. Traffic goes on, and the loss is counted"
            )

    def _reject(self, line: int, reason: str, detail: str) -> None:
        """Count what is of no use, and list it beside the journal, without its text."""
        with self._counting:
            self._rejected[reason] += 1
        said = Reject(self._config.source, line, reason, " ".join(detail.split())[:200])
        path = self._folder / REJECTS
        try:
            if not path.exists() or path.stat().st_size < _LONGEST_LIST:
                with path.open("a", encoding="utf-8", errors="replace") as file:
                    file.write(json.dumps(said.to_dict(), ensure_ascii=False) + "\n")
        except OSError:
            return  # counted all the same

    def _note(self, text: str) -> None:
        with suppress(OSError):  # a log on a full disk
            self._say(f"palate capture: {text}")


def open_store(config: CaptureConfig) -> Sink:
    """The store that the settings name."""
    from palate.store.database import Store

    store: Sink = Store.open(config.db)
    return store


def _hold(folder: Path) -> int:
    """The folder's lock; `ConfigError` if another recorder does not leave it in time."""
    until = monotonic() + _TURN
    while (lock := hold(folder / ".lock")) is None:
        if monotonic() > until:
            raise ConfigError(f"another capture uses {folder}: give this one its own, spill=FOLDER")
        sleep(0.05)
    return lock


def record(
    pipe: int, answers: BinaryIO, open_sink: Callable[[CaptureConfig], Sink] = open_store
) -> int:
    """Read the settings and then frames from `pipe` until it ends; the process's exit code."""

    def answer(**said: Any) -> None:
        with suppress(OSError):  # nobody listens any more: what came in is still written down
            answers.write(json.dumps(said).encode() + b"\n")
            answers.flush()

    unpacker = Unpacker()
    recorder: Recorder | None = None
    limit, singly = _ORPHAN, 0
    while data := os.read(pipe, READ):
        frames = list(unpacker.feed(data))
        if recorder is None and frames:
            first = frames.pop(0).meta
            singly = first["singly"]
            config = CaptureConfig.model_validate(first["config"])
            try:
                recorder = Recorder(config, partial(open_sink, config), answer)
            except (ValueError, OSError) as error:
                answer(error=" ".join(str(error).split()))
                return 2
            recorder.start()
        while recorder is not None and frames and singly > 0:
            recorder.take([frames.pop(0)])
            singly -= 1
        if frames and frames[-1].meta["kind"] == END:
            frames.pop()
            limit = config.drain
        if recorder is not None and frames:
            recorder.take(frames)
    if recorder is not None:
        recorder.end(limit)
    return 0


def main(open_sink: Callable[[CaptureConfig], Sink] = open_store) -> None:
    """The process that `palate capture` starts."""
    # Ctrl-C reaches the whole group; the proxy decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        os.nice(_NICE)  # where there are few cores, tokens go first
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    os._exit(record(sys.stdin.fileno(), answers, open_sink))  # even while a sink blocks


if __name__ == "__main__":
    main()
