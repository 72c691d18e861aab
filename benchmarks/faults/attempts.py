"""`palate` in processes that begin with everything imported, and that can be made to fail.

A server (this module, run as a program) imports torch and what a run needs, starts no thread, and
forks for each order; the child is `palate` with the order's words, from there to its exit. Imports
take longer than a tiny run, and hundreds of trials ask for several runs each. Only the charts of
report.html are not drawn, which would take half of the time: the page is written without.
"""

from __future__ import annotations

import atexit
import errno
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CREATE, WRITE, SYNC, RENAME, REMOVE = 1, 2, 4, 8, 16
COUNT, FAIL, KILL = 0, 1, 2
FULL_DISK = CREATE | WRITE | SYNC | RENAME
ALL = FULL_DISK | REMOVE
"""Classes of operations, and what happens at the n-th, as in shim.c."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the `nth` operation of these classes below the folders.

    `stays`: and at those that follow. The log gets a line `N what path` an operation.
    """

    below: tuple[str, ...]
    nth: int = 0
    mode: int = COUNT
    classes: int = ALL
    error: int = errno.ENOSPC
    stays: bool = True
    log: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How it ended: an exit code, or minus a signal; what it said.

    `seconds` of a processor it took, and `since` the file appeared that the order named.
    """

    code: int
    seconds: float
    since: float
    out: str
    err: str


class Attempts:
    """The server's client. With a shim, orders may have a `Fault`."""

    def __init__(self, shim: Path | None = None) -> None:
        calm = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "20000", "HF_HUB_OFFLINE": "1"}
        paths = [str(ROOT / "src"), str(ROOT)]
        env = {**os.environ, **calm, "PYTHONPATH": os.pathsep.join(paths)}
        env["TOKENIZERS_PARALLELISM"] = "false"
        if shim is not None:
            env["LD_PRELOAD"] = str(shim)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.attempts"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT,
        )

    def run(
        self,
        words: list[str],
        folder: Path,
        *,
        fault: Fault | None = None,
        kill_after: float | None = None,
        since: Path | None = None,
    ) -> Attempt:
        """`palate WORDS` in `folder`, its caches in `cache` there.

        `kill_after` processor seconds it is killed, if it still runs then; they are counted since
        the file `since` is there, or else from the beginning.
        """
        order = {
            "words": words,
            "folder": str(folder),
            "fault": asdict(fault) if fault else None,
            "kill_after": kill_after,
            "since": str(since) if since else None,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline() or '{"code": null}')
        assert reply["code"] is not None, "the server of attempts has died"
        out, err = (
            (folder / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err")
        )
        return Attempt(reply["code"], reply["seconds"], reply["since"], out, err)

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@functools.cache
def attempts(*, shim: bool = True) -> Attempts:
    """One server for this process, which ends with it."""
    found = Attempts(built_shim() if shim else None)
    atexit.register(found.close)
    return found


def can_build() -> bool:
    """Whether there is a C compiler, and a loader that knows LD_PRELOAD."""
    return sys.platform == "linux" and shutil.which("gcc") is not None


@functools.cache
def built_shim() -> Path:
    """shim.c as a library."""
    folder = tempfile.mkdtemp(prefix="palate-shim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made, source = Path(folder) / "shim.so", Path(__file__).with_name("shim.c")
    words = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"]
    subprocess.run(words, check=True)  # noqa: S603
    return made


def serve() -> None:
    """Orders from standard input, a line each, until it ends."""
    os.environ.pop("LD_PRELOAD", None)  # programs that a run starts have no part in it
    _import_all()
    gc.collect()
    gc.freeze()  # or each child copies all pages when its collector looks at them
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _leave(_become_palate(order))
        sys.stdout.write(json.dumps(_wait(child, order["kill_after"], order["since"])) + "\n")
        sys.stdout.flush()


def _import_all() -> None:
    import altair as alt
    import peft
    import transformers.models.auto.modeling_auto
    import transformers.models.llama.modeling_llama  # noqa: F401

    import palate.cli.main
    import palate.cli.stop
    import palate.cli.training
    import palate.run
    import palate.stages
    import palate.train.compact_adamw
    import palate.train.moving  # noqa: F401

    assert alt
    assert peft


def _leave(code: int) -> None:
    """An exit as the interpreter's, but no module is taken apart, which would take seconds."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for the run's threads
    atexit._run_exitfuncs()  # noqa: SLF001
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become_palate(order: dict[str, Any]) -> int:
    """Run the command, with its streams in files; its exit code."""
    folder = Path(order["folder"])
    os.chdir(folder)
    os.environ["PALATE_CACHE"] = str(folder / "cache")
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if order["fault"] is not None:
        _arm(Fault(**order["fault"]))
    sys.argv = ["palate", *order["words"]]
    from palate.cli.main import main
    from palate.evaluate import charts

    charts._svg = lambda *_: "<svg></svg>"  # noqa: SLF001 - see the module
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - what the interpreter does with it
        traceback.print_exc()
        return 1
    return 0


def _arm(fault: Fault) -> None:
    import ctypes

    below = ":".join(fault.below).encode()
    ctypes.CDLL(None).fault_arm(
        below,
        ctypes.c_long(fault.nth),
        fault.mode,
        fault.classes,
        fault.error,
        int(fault.stays),
        fault.log.encode(),
    )


def _wait(child: int, kill_after: float | None, since: str | None) -> dict[str, float]:
    """Its end: the exit code or minus the signal, and its processor seconds."""
    began = None if since else 0.0
    while True:
        watch = kill_after is not None or began is None
        done, status, used = os.wait4(child, os.WNOHANG if watch else 0)
        if done:
            code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
            return {"code": code, "seconds": seconds, "since": seconds - (began or 0.0)}
        if began is None and since and os.path.exists(since):  # noqa: PTH110 - five hundred a second
            began = _seconds(child)
        if kill_after is not None and began is not None and _seconds(child) >= began + kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        time.sleep(0.002)


def _seconds(child: int) -> float:
    """Processor seconds of a running process: nanoseconds of its main thread and the others."""
    total = 0
    for task in Path(f"/proc/{child}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except (OSError, IndexError):
            continue
    return total / 1e9


if __name__ == "__main__":
    serve()
