"""Compile the C++ kernels once, and load them.

They are one file without dependencies, for processors that multiply bf16 matrices in tiles
(AMX). The machine's own compiler builds it in a few seconds on first use; the result is kept
in the cache, under a name that holds the source, the compiler and the processor. Where there
is no compiler, or no AMX, training takes `palate.model.tiles`, slower and as exact.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.machine import cache_root, cpu_features, processor_name

SOURCES = ("attention.cpp", "head.cpp", "layers.cpp")
HEADERS = ("amx.h", "vectors.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-w")
_COMPILERS = ("g++", "c++", "clang++")
_BUILD_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Native:
    """The loaded library, or None and the reason in words."""

    library: ctypes.CDLL | None
    reason: str


@functools.cache
def native() -> Native:
    """The kernels of this machine; compiles them where they are not in the cache yet."""
    if os.environ.get("PALATE_NATIVE") == "off":
        return Native(None, "PALATE_NATIVE=off")
    if "amx_bf16" not in cpu_features():
        return Native(None, "the processor has no AMX")
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return Native(None, "no C++ compiler (g++ or clang++) to build the kernels with")
    try:
        library = ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"the kernels could not be built: {_first_line(error)}")
    if not library.palate_amx_allowed():
        return Native(None, "the system does not let this process use AMX")
    return Native(library, "native kernels")


def library() -> ctypes.CDLL:
    """The kernels, where `native()` has found them."""
    found = native().library
    assert found is not None, "asked for only where the kernels are"
    return found


def _built(compiler: str) -> Path:
    """The library's file, compiled unless it is there."""
    here = Path(__file__).parent
    version = subprocess.run(  # noqa: S603 the compiler that is on the path
        [compiler, "--version"], capture_output=True, check=True, timeout=_BUILD_SECONDS
    ).stdout
    sha = hashlib.sha256(version + processor_name().encode() + " ".join(FLAGS).encode())
    for name in SOURCES + HEADERS:
        sha.update((here / name).read_bytes())
    target = cache_root() / "native" / f"kernels-{sha.hexdigest()[:20]}.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            fresh = Path(folder) / target.name
            subprocess.run(  # noqa: S603
                [compiler, *FLAGS, "-o", str(fresh), *(str(here / name) for name in SOURCES)],
                capture_output=True,
                check=True,
                timeout=_BUILD_SECONDS,
            )
            fresh.replace(target)
    return target


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    text = said.decode(errors="replace") if said else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def counts(*numbers: int) -> tuple[ctypes.c_int64, ...]:
    """Sizes as the kernels take them."""
    return tuple(ctypes.c_int64(number) for number in numbers)


def pointers(*tensors: Any) -> tuple[ctypes.c_void_p, ...]:
    """Where contiguous tensors begin; null for None."""
    assert all(t is None or t.is_contiguous() for t in tensors), "kernels read whole rows"
    return tuple(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors)
