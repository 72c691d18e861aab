"""One bit is turned, or the end cut off, in a file of a checkpoint, a cache or a snapshot.

A run that was stopped after step 6 of 8 is continued. Each file has two trials: a bit of a random
byte is turned, and the file is cut at a random place.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
from pathlib import Path

from benchmarks.faults.command import LORA, scratch
from benchmarks.faults.tiny_run import after, assert_same_run, cache_in, no_page, prepare, recipe

from palate.config import RunConfig
from palate.durable import Damaged, verify_folder
from palate.progress import Quiet
from palate.run import train
from palate.train.task import Interrupted

FAULT = "one bit turned, or the end cut off, in each file"
HOLDS = (
    "a checkpoint's: named, the one before is taken, and the run ends as it would have, bit for "
    "bit; a cache's: computed again; a snapshot's: refused with one line that says the cure"
)
STOPPED = 6


class Notes(Quiet):
    """What the run tells a person."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def every() -> int:
    """Two for each file."""
    return 2 * len(_files())


def trial(number: int, folder: Path) -> dict[str, object]:
    """The file and what is done to it by the number; what the run said."""
    name, cut = _files()[(number - 1) // 2], number % 2 == 0
    shutil.copytree(_stopped(), folder, dirs_exist_ok=True)
    path, chance = folder / name, random.Random(number)
    before = path.read_bytes()
    place = chance.randrange(len(before))
    changed = bytearray(before[:place] if cut else before)
    if not cut:
        changed[place] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(changed))
    saw = {"file": name, "harm": "cut" if cut else "turned", "at": place, "of": len(before)}
    config, notes = _recipe(folder), Notes()
    with cache_in(folder / "cache"), no_page():
        if "snapshot" in name:
            return {**saw, "said": _refused(config, folder)}
        train(config, reporter=notes)
    assert_same_run(config.folder, _whole())
    if name.startswith("cache"):
        _check_cache(folder)
        return saw
    said = [text for text in notes.said if "damaged" in text]
    same = path.name == "manifest.json" and _same_json(bytes(changed), before)
    if not said:
        assert same, f"nothing was said: {notes.said}"
        return {**saw, "said": None}
    assert len(said) == 1, said
    assert said[0].startswith("passed over a damaged checkpoint: "), said
    assert path.stem in said[0], f"{said[0]} does not name {path.name}"
    assert any("continuing after step 3," in text for text in notes.said), notes.said
    return {**saw, "said": said[0].replace(f"{folder}/", "")}


def _refused(config: RunConfig, folder: Path) -> str:
    """What is said of a snapshot; nothing but a `ValueError`, which the command says in a line."""
    try:
        train(config)
    except ValueError as error:
        said = str(error)
    else:
        raise AssertionError("it went on")
    assert "\n" not in said, said
    assert str(config.folder / "snapshot") in said, said
    assert said.endswith(": prepare the data again"), said
    return said.replace(f"{folder}/", "")


def _check_cache(folder: Path) -> None:
    """Every shard is whole again."""
    for shard in (folder / "cache").rglob("shard-*"):
        try:
            verify_folder(shard)
        except Damaged as error:
            raise AssertionError(f"it was not computed again: {error}") from error


def _same_json(one: bytes, two: bytes) -> bool:
    """Whether a change lies in white space, or in the name of the checksum itself."""
    try:
        found, expected = (json.loads(body) for body in (one, two))
    except ValueError:
        return False
    expected.pop("seal")
    return all(found.get(key) == value for key, value in expected.items())


@functools.cache
def _files() -> list[str]:
    """Files of the newest checkpoint, of the caches and of the snapshot."""
    root = _stopped()
    newest = root / "runs" / "run" / "checkpoints" / f"step-{STOPPED}"
    places = [newest, root / "cache", root / "runs" / "run" / "snapshot"]
    found = [path for place in places for path in place.rglob("*") if path.is_file()]
    return sorted(str(p.relative_to(root)) for p in found if p.stat().st_size > 0)


@functools.cache
def _stopped() -> Path:
    """A run that was stopped, with a checkpoint before the newest."""
    folder = scratch() / "stopped"
    config = _recipe(folder)
    with cache_in(folder / "cache"), no_page():
        try:
            train(config, should_stop=after(config.folder, STOPPED))
        except Interrupted:
            return folder
    raise AssertionError("it was not stopped")


@functools.cache
def _whole() -> Path:
    folder = scratch() / "not-stopped"
    config = _recipe(folder)
    with cache_in(folder / "cache"), no_page():
        return train(config).folder


@functools.cache
def _desk() -> Path:
    return prepare(scratch() / "flipped")


def _recipe(folder: Path) -> RunConfig:
    return recipe(_desk(), folder / "runs", **LORA)
