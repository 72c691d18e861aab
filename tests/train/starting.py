"""Several ranks, quickly: one process imports everything once, and forks the ranks of each group.

`python -m tests.train.starting` reads a line of JSON for each group and answers with the exit code
of each rank. A rank ends as the command line does, so that what would hang there hangs here. The
parent computes nothing: threads do not survive a fork.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Jobs = list[tuple[str, dict[str, Any]]]


class Starter:
    """Starts groups of ranks, one after the other; a context manager."""

    def __init__(self) -> None:
        path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # as `palate.machine.hush_ranks` has it
        self.program = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.train.starting"],
            env={**os.environ, **quiet, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.program.stdin is not None
        self.program.stdin.close()
        self.program.wait()

    def run(
        self,
        folder: Path,
        world: int,
        parallel: str,
        jobs: Jobs,
        *,
        limit: float = 900,
        timeout: float = 600,
        wake: bool = False,
        machine: int | None = None,
    ) -> list[int | None]:
        """Exit codes of the ranks; None for one that was still there after `limit` seconds.

        What a rank said is in FOLDER/rank-R.err; FOLDER/ended appears when the last has ended.
        `timeout` is the run's `train.rank_timeout`. With `wake` a rank that was stopped is let go
        on once the others have ended. `machine` is how many ranks share one, all by default.
        """
        asked = {
            "folder": str(folder),
            "world": world,
            "parallel": parallel,
            "jobs": jobs,
            "limit": limit,
            "timeout": timeout,
            "wake": wake,
            "machine": machine,
        }
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(f"{json.dumps(asked)}\n")
        self.program.stdin.flush()
        codes: list[int | None] = json.loads(self.program.stdout.readline())
        return codes


def said(folder: Path, world: int) -> list[str]:
    """What each rank wrote to its standard error."""
    return [(folder / f"rank-{rank}.err").read_text(encoding="utf-8") for rank in range(world)]


def environment(rank: int, world: int, port: int, machine: int | None = None) -> dict[str, str]:
    """What torchrun gives to a rank; `machine` is how many ranks share one."""
    machine = machine or world
    here = {
        "RANK": rank,
        "LOCAL_RANK": rank % machine,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": machine,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in here.items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def serve() -> int | None:
    """Fork and reap until the input ends; in a rank, what it ends with."""
    from tests.train import ranks  # noqa: F401 what every rank needs, once

    for line in sys.stdin:
        asked, port = json.loads(line), free_port()
        pids = []
        for rank in range(asked["world"]):
            pid = os.fork()
            if pid == 0:
                return _rank(asked, rank, port)
            pids.append(pid)
        codes = _reaped(pids, asked["limit"], asked["wake"])
        (Path(asked["folder"]) / "ended").touch()
        sys.stdout.write(f"{json.dumps(codes)}\n")
        sys.stdout.flush()
    return None


def _reaped(pids: list[int], limit: float, wake: bool) -> list[int | None]:
    codes: dict[int, int] = {}
    begun = time.monotonic()
    while len(codes) < len(pids) and time.monotonic() - begun < limit:
        for pid in set(pids) - codes.keys():
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif wake and len(codes) == len(pids) - 1:
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
    for pid in set(pids) - codes.keys():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return [codes.get(pid) for pid in pids]


def _rank(asked: dict[str, Any], rank: int, port: int) -> int:
    """One rank's life: all jobs of its group, and at most one line if it fails."""
    import torch
    from tests.train.ranks import run_job

    from palate.train.parallel import PeerFailed, end_for_sure, join

    folder = Path(asked["folder"])
    os.environ.update(environment(rank, asked["world"], port, asked["machine"]))
    _redirect(folder / f"rank-{rank}.err")
    torch.set_num_threads(1)
    try:
        with join(asked["parallel"], asked["timeout"]) as ranks:
            for name, settings in asked["jobs"]:
                run_job(folder / name, ranks, **settings)
    except (PeerFailed, ValueError, FloatingPointError) as error:
        if str(error):
            sys.stderr.write(f"error: {error}\n")
        end_for_sure(2)
    return 0


def _redirect(path: Path) -> None:
    """Standard error to the file, nothing to standard output, and nothing from the input."""
    for number, where, how in (
        (0, os.devnull, os.O_RDONLY),
        (1, os.devnull, os.O_WRONLY),
        (2, str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(where, how, 0o644)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    sys.exit(serve())
