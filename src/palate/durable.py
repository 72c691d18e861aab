"""Writing so that a reader, after any crash, finds the old content or the new, never half.

Files: written beside, flushed to the disk, renamed over. Folders: filled under a
hidden name, listed with checksums in a manifest, renamed into place. A folder cannot be
renamed over one that holds files, so when one is replaced there is a moment in which only
`.NAME.old` is there; checkpoints and snapshots are never replaced. A hidden folder that we did not
make keeps its name and its files: ours gets another name then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MARK = ".palate-unfinished"
"""In a folder that is being filled: what a crash left with it inside is ours to delete."""
SEAL = "seal"
"""In a manifest: the checksum of all else that it says."""
_CHUNK = 2**22


class Damaged(ValueError):
    """A folder whose files do not match its manifest."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole (UTF-8)."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        if scratch.is_symlink():  # in a folder of somebody else: it would be written through
            scratch.unlink()
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file as a whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def commit_folder(
    target: Path,
    fill: Callable[[Path], Mapping[str, str] | None],
    extra: dict[str, Any],
    *,
    shared: bool = False,
) -> None:
    """Make `target` by filling a hidden folder beside it and renaming it into place.

    `fill` writes the files, and may return checksums that it knows already, by path; the manifest
    gets `extra` and every file's checksum. A folder that is there already is replaced. After an
    error nothing is left behind and what was there before still stands. Raises `OSError` for what
    the disk refuses. With `shared`, several processes may be writing the same folder at once.
    """
    # One writer cleans up what it left behind in a crash; one of several must not.
    owner = f".{os.getpid()}" if shared else ""
    make_folder(target.parent)
    scratch = _free(target.with_name(f".{target.name}{owner}.tmp"))
    try:
        scratch.mkdir(exist_ok=True)
        (scratch / MARK).touch()
        with _disk_errors(target):
            known = fill(scratch) or {}
        files = sorted(p for p in scratch.rglob("*") if p.is_file() and p != scratch / MARK)
        names = [str(path.relative_to(scratch)) for path in files]
        sums = {n: known.get(n) or file_hash(p) for n, p in zip(names, files, strict=True)}
        for path in files:
            sync_file(path)
        for path in scratch.rglob("*"):
            if path.is_dir():
                sync_folder(path)
        body = {**extra, "files": sums}
        write_json(scratch / MANIFEST, {**body, SEAL: _seal(body)})
        (scratch / MARK).unlink()  # from here the manifest shows whose it is
        _put(scratch, target)
    except BaseException:
        _discard(scratch)
        raise
    sync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a reader finds all of it or nothing.

    A crash leaves `.NAME.gone`, for `remove_leftovers`. What cannot be removed stays as it is.
    """
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def remove_leftovers(parent: Path, names: str) -> None:
    """Remove what crashes left of removing folders whose names match a pattern."""
    for gone in parent.glob(f".{names}.gone"):
        shutil.rmtree(gone, ignore_errors=True)


def _free(hidden: Path) -> Path:
    """The hidden path, after what a crash left there was deleted; another where it is not ours."""
    if _is_ours(hidden):
        _discard(hidden)
    if not os.path.lexists(hidden):
        return hidden
    return Path(tempfile.mkdtemp(prefix=f"{hidden.stem}.", suffix=hidden.suffix, dir=hidden.parent))


def _discard(folder: Path) -> None:
    """Remove what can be removed, the mark last: after a crash the rest still shows whose it is."""
    mark = folder / MARK
    with suppress(OSError):
        mark.touch()
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path != mark:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether `commit_folder` made it: it has the mark, or a manifest of files."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / MARK).is_file() or listed(folder) is not None or not any(folder.iterdir())


def listed(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder as it says, unchecked; None where there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else None


def _put(scratch: Path, target: Path) -> None:
    """Rename into place; a folder that is there already comes back if that fails."""
    if not target.exists():
        scratch.rename(target)
        return
    old = _free(target.with_name(f".{target.name}.old"))
    target.rename(old)
    try:
        scratch.rename(target)
    except BaseException:
        old.rename(target)
        raise
    sync_folder(target.parent)  # or a power cut could find the old one emptied and the new unnamed
    _discard(old)


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """Libraries written in Rust hide the system's error in one of their own; bring it out."""
    try:
        yield
    except Exception as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None or isinstance(error, OSError):
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(target)) from error


def verify_folder(folder: Path) -> dict[str, Any]:
    """The manifest, after it and every file were checked; `Damaged` names the first bad one.

    A name that leads out of the folder, and a link, are bad: who wrote the folder may be somebody
    else, and what it holds are files of its own.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seal = manifest.pop(SEAL, None)  # older manifests have none
        sums = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{folder}: no readable manifest ({error})") from error
    if seal is not None and seal != _seal(manifest):
        raise Damaged(f"{folder}: {MANIFEST} does not match its checksum")
    for name, expected in sums.items():
        path = folder / name
        if leads_out(folder, name):
            raise Damaged(f"{folder}: {name!r} is no file of this folder")
        if not path.is_file():
            raise Damaged(f"{folder}: {name} is missing")
        try:
            found = file_hash(path)
        except OSError as error:
            raise Damaged(f"{folder}: {name} cannot be read ({error.strerror})") from error
        if found != expected:
            raise Damaged(f"{folder}: {name} does not match its checksum")
    return manifest  # type: ignore[no-any-return]


def leads_out(folder: Path, name: str) -> bool:
    """Whether a name below a folder goes up, begins elsewhere, or has a link on its way."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        return True
    places = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    return any(place.is_symlink() for place in places)


def _seal(body: dict[str, Any]) -> str:
    """SHA-256 of what a reader will find, whatever Python's types were."""
    read = json.loads(json.dumps(body))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def hold(path: Path) -> int | None:
    """A handle that holds `path` until it is closed, or None while another process holds it.

    The file is made where it is not; its folder must be there. The system lets go when we die.
    """
    # A link would make a file wherever it leads.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        import fcntl
    except ImportError:  # Windows: an open handle is not a lock, but nothing is worse than before
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def held(path: Path) -> bool:
    """Whether somebody holds `path` (see `hold`); it is not made where it is not.

    To find out it is shared for an instant, in which nobody else can take hold of it.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except ImportError:  # Windows: as in `hold`
        return False
    finally:
        os.close(handle)
    return False


@contextmanager
def turn(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside, no other process is inside a turn of the same `path`.

    `waiting` is called several times a second until it is our turn, and may raise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while (handle := hold(path)) is None:
        waiting()
        time.sleep(0.1)
    try:
        yield
    finally:
        os.close(handle)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, each of which outlives a power cut; `mode` is its own."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (renames) to the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
