"""What the machine is, as far as a test can pretend to be another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palate import machine

Pretend = Callable[[dict[str, str]], None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Files of /proc and /sys with the texts given; all others cannot be read."""

    def install(texts: dict[str, str]) -> None:
        def read(self: Path, **_: object) -> str:
            if str(self) not in texts:
                raise FileNotFoundError(str(self))
            return texts[str(self)]

        monkeypatch.setattr(Path, "read_text", read)

    return install


def test_features_that_decide_the_precision(pretend: Pretend) -> None:
    pretend({"/proc/cpuinfo": "model name : X\nflags\t\t: fpu avx2 avx512f amx_bf16 avx512_bf\n"})
    assert machine.cpu_features() == ("avx2", "avx512f", "amx_bf16")
    assert machine.fast_bf16()
    pretend({"/proc/cpuinfo": "flags : fpu avx2 avx512f\n"})
    assert not machine.fast_bf16()
    pretend({})
    assert machine.cpu_features() == ()
    assert not machine.fast_bf16()


def test_cores_are_those_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, pretend: Pretend
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    quota = "/sys/fs/cgroup/cpu.max"
    for text, expected in (
        ("max 100000\n", 8),
        ("250000 100000\n", 3),
        ("50000 100000\n", 1),
        ("9900000 100000\n", 8),
        ("nonsense", 8),
    ):
        pretend({quota: text})
        assert machine.cores() == expected, text
    pretend({})
    assert machine.cores() == 8


def test_threads_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for text, expected in (("3", 3), (" 2,4", 2), ("", 8), ("0", 8), ("many", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert machine.threads() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert machine.threads() == 8


def test_memory_is_the_smallest_limit(monkeypatch: pytest.MonkeyPatch, pretend: Pretend) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", lambda name: sizes[name])
    pretend({})
    assert machine.memory_limit() == 4_096_000
    pretend({"/sys/fs/cgroup/memory.max": "max\n"})
    assert machine.memory_limit() == 4_096_000
    pretend({"/sys/fs/cgroup/memory.max": "123456\n"})
    assert machine.memory_limit() == 123_456
    pretend({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "999\n"})
    assert machine.memory_limit() == 999


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "a" / "b") > 0
    (tmp_path / "file").write_text("")
    assert machine.free_disk(tmp_path / "file" / "below") > 0


@pytest.fixture
def untuned() -> object:
    """The allocator is tuned once in a process; here, for once, what would be decided anew."""
    return machine.tune_allocator.__wrapped__


def test_the_allocator_is_left_alone_where_told(
    monkeypatch: pytest.MonkeyPatch, untuned: Callable[[], str]
) -> None:
    def never(_name: object) -> None:
        raise AssertionError("mallopt must not be called")

    monkeypatch.setattr(machine.ctypes, "CDLL", never)
    monkeypatch.setenv("PALATE_ALLOCATOR", "default")
    assert untuned() == "default (PALATE_ALLOCATOR=default)"
    monkeypatch.delenv("PALATE_ALLOCATOR")
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2:/other.so")
    assert untuned() == "preloaded (libjemalloc.so.2)"
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("musl", "1"))
    assert "not tuned" in untuned()


def test_the_allocator_is_told_to_keep_memory(
    monkeypatch: pytest.MonkeyPatch, untuned: Callable[[], str]
) -> None:
    """M_MMAP_MAX is −4, M_TRIM_THRESHOLD −1, M_TOP_PAD −2 in glibc's malloc.h."""
    calls: dict[int, int] = {}

    class Libc:
        answer = 1

        def mallopt(self, number: int, value: int) -> int:
            calls[number] = value
            return self.answer

    monkeypatch.delenv("PALATE_ALLOCATOR", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.39"))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: Libc())
    assert untuned() == "glibc, tuned (freed memory is kept)"
    assert calls == {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}
    monkeypatch.setattr(Libc, "answer", 0)
    assert untuned() == "glibc, tuning refused"


def test_kernels_are_bounded_unless_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    monkeypatch.setenv(names[0], "7")
    monkeypatch.setenv(names[1], "")  # so that it is undone
    monkeypatch.delenv(names[1])
    machine.bound_kernels()
    assert [os.environ[name] for name in names] == ["7", "256"]


def test_the_description_is_complete() -> None:
    found = machine.describe()
    assert found.cores >= 1
    assert found.memory > 2**20
    assert found.processor
    assert found.system.split()[0] == os.uname().sysname


def test_free_memory_of_a_cgroup(tmp_path: Path) -> None:
    # 1000 allowed, 700 taken, of which 200 are pages of files that can be dropped
    own = tmp_path / "own"
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert [(g.limit, g.free) for g in machine._cgroups(tmp_path, own)] == [(1000, 500)]
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._cgroups(tmp_path, own) == []
    assert machine._cgroups(tmp_path / "none", own) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_may_lie_at_any_level(tmp_path: Path, version: int) -> None:
    """A batch system limits the job's group, which is not the root of what is mounted."""
    own = tmp_path / "own"
    mount = tmp_path if version == 2 else tmp_path / "memory"
    own.write_text("4:memory:/jobs/7\n1:cpu:/elsewhere\n0::/\n" if version == 1 else "0::/jobs/7\n")
    limit, use, drop = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    for folder, most, taken in ((mount / "jobs" / "7", 5000, 100), (mount / "jobs", 900, 800)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / use).write_text(f"{taken}\n")
        (folder / "memory.stat").write_text(f"{drop} 50\n")
    found = machine._cgroups(tmp_path, own)
    assert [(g.limit, g.free) for g in found] == [(5000, 4950), (900, 150)]


def test_free_memory_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [machine._Cgroup(5000, 4950), machine._Cgroup(900, 150)]
    monkeypatch.setattr(machine, "_cgroups", lambda: groups)
    monkeypatch.setattr(machine, "_machine_free", lambda: 700)
    assert machine.free_memory() == 150
    monkeypatch.setattr(machine, "_cgroups", list)
    assert machine.free_memory() == 700
    monkeypatch.setattr(machine, "_machine_free", lambda: None)
    assert machine.free_memory() is None


def test_free_memory_of_the_machine(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9 kB\nMemAvailable:   4 kB\n")
    assert machine._machine_free(info) == 4096
    info.write_text("MemTotal: 9 kB\n")
    assert machine._machine_free(info) is None
    assert machine._machine_free(tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_what_this_process_holds() -> None:
    # Of a fresh process: in one that ran other tests the allocator may have the pages already.
    program = """
from palate import machine
before = machine.taken_memory()
block = bytearray(64 * 2**20)
block[::4096] = b"x" * len(block[::4096])
print(machine.taken_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(done.stdout) > 48 * 2**20
