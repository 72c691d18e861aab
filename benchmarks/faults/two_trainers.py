"""A second trainer begins in the folder of a run that is at a random step."""

from __future__ import annotations

import functools
import random
from pathlib import Path

from benchmarks.faults.attempts import Attempt, attempts, can_build
from benchmarks.faults.command import scratch
from benchmarks.faults.tiny_run import after, assert_same_run, cache_in, no_page, prepare, recipe

FAULT = "a second trainer in the folder of a run"
HOLDS = "it is refused with one line and exit code 2, and the first run ends as it would have"
TRIALS = 20
STEPS = 6


def trial(number: int, folder: Path) -> dict[str, object]:
    """The second comes at a random step, half of the time to begin anew (`resume=never`)."""
    from palate.config import dump_config
    from palate.run import train

    chance = random.Random(number)
    at, resume = chance.randint(1, STEPS), ("auto", "never")[number % 2]
    config = recipe(_desk(), folder / "runs")
    (folder / "recipe.yaml").write_text(dump_config(config), encoding="utf-8")
    reached, refused = after(config.folder, at), list[Attempt]()

    def second() -> bool:
        if not refused and reached():
            words = ["train", "recipe.yaml", f"resume={resume}"]
            refused.append(attempts(shim=can_build()).run(words, folder))
        return False

    with cache_in(folder / "cache"), no_page():
        train(config, should_stop=second)
    (other,) = refused
    said = [line for line in other.err.splitlines() if line.startswith("error: ")]
    assert other.code == 2, f"exit code {other.code}: {other.err[-300:]}"
    assert len(said) == 1, other.err
    assert said[0].startswith("error: another process is training in "), said
    assert [path.name for path in (folder / "runs").iterdir()] == ["run"], "it was moved aside"
    assert_same_run(config.folder, _whole())
    return {"step": at, "resume": resume, "said": said[0].replace(f"{folder}/", "")}


@functools.cache
def _desk() -> Path:
    return prepare(scratch() / "two")


@functools.cache
def _whole() -> Path:
    from palate.run import train

    config = recipe(_desk(), scratch() / "alone")
    with cache_in(scratch() / "two-cache"), no_page():
        return train(config).folder
