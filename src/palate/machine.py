"""What this machine is: processor features, memory limits, and the C allocator.

Two defaults of a Linux machine make CPU training slow. glibc gives every large block
back to the kernel as soon as it is freed, and each step then pays for millions of page
faults; `tune_allocator` keeps freed memory in the process, and must run before the first
large tensor. OpenMP's threads spin while they wait for each other, see `calm_threads`.
A third one makes a server in bf16 large: `bound_kernels`. They are measured in
docs/performance.md and docs/serving.md.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

# mallopt's parameter numbers, from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_INT_MAX = 2**31 - 1
SPIN_COUNT = "20000"
KERNELS = "256"
_TOP_PAD_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts for `palate doctor` and environment.json; memory in bytes."""

    system: str
    python: str
    processor: str
    cores: int
    memory: int
    features: tuple[str, ...]
    allocator: str
    openmp: str


def hush_ranks() -> None:
    """Where several ranks train, keep torch's stack traces of lost connections off the terminal.

    A rank that is gone is said in one line. Read once, when torch is imported; what the user has
    set stays.
    """
    if "RANK" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def calm_threads() -> str:
    """Let OpenMP's threads spin only briefly at barriers; returns what is in force, in words.

    With another busy program on the machine, a spinning thread takes the processor from the
    very thread it waits for: by default a step then took 77 s instead of 3. Twenty thousand
    turns keep all the speed of an idle machine and half of that loss away; sleeping at once
    costs a third on an idle machine (docs/performance.md). The library reads this once, so it
    must run before torch is imported; what the user has set stays.
    """
    chosen = {k: os.environ[k] for k in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if k in os.environ}
    if chosen:
        return ", ".join(f"{k}={v}" for k, v in chosen.items())
    if "torch" in sys.modules:
        return "waiting by OpenMP's default (torch was imported first)"
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    return f"waiting with GOMP_SPINCOUNT={SPIN_COUNT}"


def bound_kernels() -> None:
    """Let oneDNN keep 256 compiled kernels, where it would keep 1,024.

    In bf16 each shape of a matrix product has a kernel of its own, of about 1 MiB: a server, whose
    requests have all lengths, would grow by 0.8 GiB. There are two caches, torch's and the
    library's; both are read once, at the first product. What the user has set stays. Training
    keeps them all: with 128, steps whose shapes are more than that took up to twice the time.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, KERNELS)


@functools.cache
def tune_allocator() -> str:
    """Keep freed memory in the process (glibc); returns what was done, in words."""
    if os.environ.get("PALATE_ALLOCATOR") == "default":
        return "default (PALATE_ALLOCATOR=default)"
    preloaded = os.environ.get("LD_PRELOAD", "")
    if "jemalloc" in preloaded or "tcmalloc" in preloaded:
        return f"preloaded ({Path(preloaded.split(':')[0]).name})"
    if platform.libc_ver()[0] != "glibc":
        return "the system's own, not tuned (no glibc)"
    libc = ctypes.CDLL(None)
    done = (
        libc.mallopt(_M_MMAP_MAX, 0)
        and libc.mallopt(_M_TRIM_THRESHOLD, _INT_MAX)
        and libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
    )
    return "glibc, tuned (freed memory is kept)" if done else "glibc, tuning refused"


def cpu_features() -> tuple[str, ...]:
    """Instruction sets that decide the compute precision, of those this processor has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return tuple(f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags)


def fast_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices faster than fp32 ones."""
    return bool({"amx_bf16", "avx512_bf16"} & set(cpu_features()))


def cores() -> int:
    """Processor cores this process may use: by affinity, and by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(allowed, _quota()))


def _quota() -> int:
    """Whole cores that the cgroup grants, rounded up; very many without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return math.ceil(int(limit) / int(period))
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize


def threads() -> int:
    """Threads to compute with: `OMP_NUM_THREADS` where it is set, else one a core.

    Processes that torchrun started on this machine divide its cores (it sets the variable to 1
    by itself where nobody has).
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def memory_limit() -> int:
    """Bytes of memory this process may use: the machine's, or a cgroup's if that is less."""
    limits = [group.limit for group in _cgroups()]
    return min([_physical_memory(), *limits])


def free_memory() -> int | None:
    """Bytes that can still be taken: the machine's, or a cgroup's if those are fewer.

    None where the system does not say. Past these the kernel ends the process unasked, so
    whoever allocates must stay below them beforehand.
    """
    free = [group.free for group in _cgroups()]
    machine = _machine_free()
    if machine is not None:
        free.append(machine)
    return max(0, min(free)) if free else None


def taken_memory() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says so; torch has a type of its own for it only on some devices."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return said or isinstance(error, MemoryError)


def _machine_free(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return int(words[1]) * 1024 if words else None


@dataclass(frozen=True, slots=True)
class _Cgroup:
    """A limit that holds for this process, and what is left below it; bytes."""

    limit: int
    free: int


# Where each version of cgroups is mounted, and its files: limit, use, and what the kernel can
# drop of that use (pages of files).
_CGROUP_FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _cgroups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[_Cgroup]:
    """Limits of this process's own cgroup and of every one above it.

    Inside a container its own cgroup is usually shown as the root; elsewhere (a batch system,
    a service manager) it lies deeper, and the limit may be at any level.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = []
    for mount, limit, use, droppable in _CGROUP_FILES:
        paths = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == mount]
        inner = Path(paths[0].lstrip("/")) if paths else Path()
        for folder in (root / mount / inner, *(root / mount / p for p in inner.parents)):
            group = _read_cgroup(folder, limit, use, droppable)
            if group is not None:
                found.append(group)
    return found


def _read_cgroup(folder: Path, limit: str, use: str, droppable: str) -> _Cgroup | None:
    """None where there is no such group, or no limit ("max")."""
    try:
        most = int((folder / limit).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    try:
        taken = int((folder / use).read_text(encoding="utf-8"))
        stat = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return _Cgroup(most, most)
    counts = dict(line.split() for line in stat if len(line.split()) == 2)
    return _Cgroup(most, max(0, most - taken + int(counts.get(droppable, 0))))


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 2**63 - 1


def cache_root() -> Path:
    """`$PALATE_CACHE`, or `~/.cache/palate`."""
    return Path(os.environ.get("PALATE_CACHE") or Path.home() / ".cache" / "palate")


def free_disk(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or its nearest existing parent."""
    here = path.resolve()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def describe() -> Machine:
    """This machine, for people."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        processor=processor_name(),
        cores=cores(),
        memory=memory_limit(),
        features=cpu_features(),
        allocator=tune_allocator(),
        openmp=calm_threads(),
    )


def processor_name() -> str:
    """The processor's model, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
