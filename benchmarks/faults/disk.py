"""A disk that loses what was not flushed: what a program did, and what a power cut leaves of it.

`record` runs a program with `disk_recorder.c` preloaded, which writes down each operation on the
files below a folder. `Recording.after_cut` is what may be there when the power goes after some of
them: all that was flushed (`fsync` of the file for its bytes, of the folder for its names), and of
the rest what chance lets arrive, sector by sector, in any order, with or without the new length.
This is stricter than ext4 or xfs, which keep names in the order of the operations, and it is what
POSIX promises.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("disk_recorder.c")
SECTORS = (512, 4096)
_HEAD = struct.Struct("<QQQqQQQ")


def compiler() -> str | None:
    """The C compiler, where there is one that can make what Linux preloads."""
    found = shutil.which("gcc") or shutil.which("cc")
    return found if sys.platform == "linux" else None


@cache
def library() -> Path:
    """The compiled recorder; made once a process."""
    compile_with = compiler()
    assert compile_with is not None, "recording what a program writes needs gcc, on Linux"
    made = Path(tempfile.mkdtemp(prefix="palate-disk-")) / "disk_recorder.so"
    words = ["-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run([compile_with, *words], check=True, capture_output=True)  # noqa: S603 - ours
    return made


def environment(root: Path, log: Path, full: str | None = None) -> dict[str, str]:
    """What a program's environment needs so that it is recorded; `full` as in the C file."""
    ours = {
        "LD_PRELOAD": str(library()),
        "PALATE_DISK_ROOT": str(root),
        "PALATE_DISK_LOG": str(log),
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
    }
    return {**os.environ, **ours, **({} if full is None else {"PALATE_DISK_FULL": full})}


def mark(text: str) -> None:
    """In a recorded program: put a mark behind all that it has done; nothing in any other."""
    import ctypes

    said = getattr(ctypes.CDLL(None), "disk_mark", None)
    if said is not None:
        said(text.encode())


@dataclass(frozen=True, slots=True)
class Operation:
    """One record: `a` and `b` are inodes (a folder's where a name is concerned), `c` a place."""

    kind: str
    a: int
    b: int
    c: int
    first: str
    second: str
    data: bytes


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Operation]] = field(default_factory=list)


@dataclass
class _Folder:
    names: dict[str, _Node] = field(default_factory=dict)
    now: dict[str, _Node] = field(default_factory=dict)
    pending: list[tuple[int, dict[str, _Node | None]]] = field(default_factory=list)


_Node = _File | _Folder


@dataclass(frozen=True)
class Cut:
    """What arrives of what was not flushed: of names and sectors a share, up to a moment."""

    rng: random.Random
    share: float
    upto: int
    sector: int

    @classmethod
    def drawn(cls, rng: random.Random, at: int) -> Cut:
        """Nothing, everything, the earlier part, or whatever chance wills."""
        kind = rng.choice(("nothing", "everything", "earlier", "some", "some", "some"))
        share = {"nothing": 0.0, "some": rng.uniform(0.05, 0.95)}.get(kind, 1.0)
        upto = rng.randint(max(0, at - 60), at) if kind == "earlier" else at
        return cls(rng, share, upto, rng.choice(SECTORS))

    def arrives(self, number: int) -> bool:
        """Whether one thing that was done as that number arrives."""
        return number < self.upto and (self.share >= 1 or self.rng.random() < self.share)


class Recording:
    """The operations in the log, in their order."""

    def __init__(self, log: Path) -> None:
        self.operations = tuple(_read(log.read_bytes()))
        lost = next((one for one in self.operations if one.kind == "!"), None)
        assert lost is None, f"the recorder cannot follow {lost}"
        self.marks = [
            (number, one.data.decode())
            for number, one in enumerate(self.operations)
            if one.kind == "A"
        ]

    def marked_before(self, at: int) -> list[str]:
        """The marks among the first `at` operations."""
        return [text for number, text in self.marks if number < at]

    def moment(self, rng: random.Random) -> int:
        """A moment to cut the power: any, or right after a mark, where nothing may be missing."""
        if self.marks and rng.random() < 0.5:
            return rng.choice(self.marks)[0] + 1
        return rng.randint(0, len(self.operations))

    def after_cut(self, at: int, cut: Cut, folder: Path) -> None:
        """Fill `folder` with what is there when the power goes after `at` operations."""
        root = _replayed(self.operations[:at])
        folder.mkdir(parents=True, exist_ok=True)
        _fill(folder, root, cut)


def record(words: Sequence[str], root: Path, log: Path) -> Recording:
    """Run a program that uses the folder `root`, which is empty, and return what it did."""
    root.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(  # noqa: S603 - ours
        [sys.executable, *words],
        env=environment(root, log),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"the recorded program failed:\n{ran.stdout}\n{ran.stderr}"
    return Recording(log)


def _read(raw: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(raw):
        kind, a, b, c, *sizes = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        parts = []
        for size in sizes:
            parts.append(raw[at : at + size])
            at += size
        yield Operation(chr(kind), a, b, c, os.fsdecode(parts[0]), os.fsdecode(parts[1]), parts[2])


def _replayed(operations: Iterable[Operation]) -> _Folder:
    """The root folder, each node with what is flushed and what is pending."""
    root = _Folder()
    nodes: dict[int, _Node] = {}
    begun: dict[int, list[int]] = {}
    for number, one in enumerate(operations):
        if one.kind == "I":
            nodes[one.a] = root
        elif one.kind == "B":
            begun.setdefault(one.a, []).append(number)
        elif one.kind == "F":
            _flush(nodes[one.a], begun[one.a].pop(0))
        elif one.kind in "WT":
            node = nodes[one.a]
            assert isinstance(node, _File)
            node.pending.append((number, one))
        elif one.kind in "CDUR":
            _rename(nodes, number, one)
    return root


def _rename(nodes: dict[int, _Node], number: int, one: Operation) -> None:
    """What an operation changes of a folder's names."""
    folder = nodes[one.a]
    assert isinstance(folder, _Folder)
    changes: dict[str, _Node | None]
    if one.kind == "R":
        assert one.a == one.b, f"from one folder to another: {one}"
        changes = {one.first: None, one.second: folder.now[one.first]}
    elif one.kind == "U":
        changes = {one.first: None}
    else:
        nodes[one.b] = _File() if one.kind == "C" else _Folder()
        changes = {one.first: nodes[one.b]}
    _apply_names(folder.now, changes)
    folder.pending.append((number, changes))


def _apply_names(names: dict[str, _Node], changes: dict[str, _Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _flush(node: _Node, begun: int) -> None:
    """What was pending when the flush began is on the disk."""
    if isinstance(node, _Folder):
        for _, changes in (one for one in node.pending if one[0] < begun):
            _apply_names(node.names, changes)
        node.pending = [one for one in node.pending if one[0] >= begun]
        return
    for _, operation in (one for one in node.pending if one[0] < begun):
        _apply(node.content, operation)
    node.pending = [one for one in node.pending if one[0] >= begun]


def _apply(content: bytearray, one: Operation) -> None:
    if one.kind == "T":
        content[one.c :] = bytes(max(0, one.c - len(content)))
    else:
        _put(content, one.c, one.data)


def _put(content: bytearray, at: int, data: bytes) -> None:
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _fill(folder: Path, node: _Folder, cut: Cut) -> None:
    names = dict(node.names)
    for number, changes in node.pending:
        if cut.arrives(number):
            _apply_names(names, changes)
    for name, one in names.items():
        path = folder / name
        if isinstance(one, _Folder):
            path.mkdir()
            _fill(path, one, cut)
        else:
            path.write_bytes(_arrived(one, cut))


def _arrived(file: _File, cut: Cut) -> bytes:
    """The file's bytes, of what is pending as many sectors as arrive."""
    content = bytearray(file.content)
    longest = len(content)
    for number, one in file.pending:
        longest = max(longest, one.c + len(one.data))
        if one.kind == "T" and cut.arrives(number):
            _apply(content, one)
        elif one.kind == "W":
            for at, piece in _sectors(one, cut.sector):
                if cut.arrives(number):
                    _put(content, at, piece)
    if 0 < cut.share < 1 and file.pending and cut.rng.random() < 0.3:
        content.extend(bytes(longest - len(content)))  # the length arrived, the bytes did not
    return bytes(content)


def _sectors(one: Operation, size: int) -> Iterator[tuple[int, bytes]]:
    at, end = one.c, one.c + len(one.data)
    while at < end:
        upto = min(end, (at // size + 1) * size)
        yield at, one.data[at - one.c : upto - one.c]
        at = upto
