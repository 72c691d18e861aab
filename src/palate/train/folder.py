"""A run's folder: one trainer at a time, the resolved config, and what was decided once.

The token budget, layout, precision, device and thread count change the bits of a
result, so they are decided when a run begins, written to `plan.json`, and read back
when it is continued.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from palate.config import ConfigError, RunConfig, dump_config, load_config
from palate.durable import hold, write_json, write_text
from palate.machine import describe
from palate.model.head import LOGITS_BUDGET
from palate.model.kernels import TILED

_PACKAGES = (
    "palate",
    "torch",
    "transformers",
    "peft",
    "safetensors",
    "tokenizers",
    "pyarrow",
    "bitsandbytes",
)
# What an attempt leaves behind that failed before any data was frozen.
_BEGINNINGS = {".lock", "config.yaml", "plan.json", "environment.json", "rejects.jsonl"}
# Who only looks whether somebody trains shares the lock for an instant (`palate.durable.held`).
_TRIES, _INSTANT = 5, 0.02
# What may differ between a run and its continuation, beside all of `evaluate`.
_WHERE = ("resume", "out", "name")
_MAY_CHANGE_IN_TRAIN = (
    "epochs",
    "max_steps",
    "eval_every",
    "log_every",
    "save_every",
    "keep",
    "parallel",
    "rank_timeout",
    "trackers",
)


@dataclass(frozen=True, slots=True)
class Lowered:
    """From optimizer step `step` (counted from 0) on, micro-batches hold at most so many tokens."""

    step: int
    tokens_per_microbatch: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions that a resumed run must repeat to give the same bits.

    `base_sha256` is the hash of the weights it started from, `reference_sha256` of what the
    reference computes with (`train/base.py`); runs of before that was kept have none.
    `tokens_per_microbatch` is None until it has been settled (`palate.train.trial`); `lowered` is
    what steps changed about it when memory ran out. `ranks` processes train in the manner of
    `parallel`, each with `threads`. `attention` names the kernel of the tree's attention,
    `logits_budget` are bytes of one chunk of the head, `compiled` says whether the layers are.
    """

    layout: Literal["tree", "plain"]
    layout_reason: str
    precision: Literal["fp32", "bf16"]
    device: str
    threads: int
    tokens_per_microbatch: int | None
    base_sha256: str
    reference_sha256: str = ""
    parallel: Literal["none", "ddp", "fsdp", "hybrid"] = "none"
    ranks: int = 1
    lowered: tuple[Lowered, ...] = ()
    attention: str = TILED
    logits_budget: int = LOGITS_BUDGET
    compiled: bool = False

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Plan:
        """From its JSON form; `TypeError` for keys that are not its."""
        if not isinstance(raw, dict):
            raise TypeError("not a mapping")
        lowered = tuple(Lowered(**event) for event in raw.get("lowered", ()))
        return cls(**{**raw, "lowered": lowered})

    @property
    def divided(self) -> bool:
        """Whether each process holds only a part of the weights."""
        return self.parallel in {"fsdp", "hybrid"}

    @property
    def settled_budget(self) -> int:
        """`tokens_per_microbatch`, of a run that came so far."""
        assert self.tokens_per_microbatch is not None, "the budget is settled before it is used"
        return self.tokens_per_microbatch

    def budget_at(self, step: int) -> int:
        """Tokens of a micro-batch of optimizer step `step`, counted from 0."""
        since = [low.tokens_per_microbatch for low in self.lowered if low.step <= step]
        return min([self.settled_budget, *since])


@contextmanager
def open_folder(
    config: RunConfig, note: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Path, bool]]:
    """Lock the run's folder; yields it and whether the run continues.

    With `resume: never` a folder of an earlier run is moved aside, never overwritten.
    Raises `ConfigError` when another process trains there, or the recipe differs from
    the one that is to be continued.
    """
    folder = config.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    except OSError as error:
        raise ConfigError(
            f"the run's folder {folder} cannot be written ({error.strerror}): choose another "
            "with out=FOLDER"
        ) from error
    try:
        begun = (folder / "config.yaml").is_file()
        continues = begun and config.resume == "auto"
        if continues:
            _refuse_links(folder)
            _adopt(config, folder)
        else:
            if begun and (aside := _move_aside(folder)) is not None:
                note(f"the earlier run {folder} is {aside} now; resume=auto would continue it")
            write_text(folder / "config.yaml", dump_config(config))
        yield folder, continues
    finally:
        os.close(lock)


def _refuse_links(folder: Path) -> None:
    """A run that is continued appends to its files; through a link they may be anybody's."""
    for path in (*folder.iterdir(), *(folder / "checkpoints").glob("*")):
        if path.is_symlink():
            raise ConfigError(
                f"{path} is a link, and a run writes only inside its folder: move what it leads to "
                "in its place, or put the whole run elsewhere with out=FOLDER"
            )


def read_plan(folder: Path) -> Plan | None:
    """The decisions of the run that is continued, if it came that far."""
    try:
        raw = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return Plan.of(raw)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder / 'plan.json'} cannot be read ({error}): start anew with another name=NAME"
        ) from error


def write_plan(folder: Path, plan: Plan) -> None:
    """Keep the decisions beside the run."""
    write_json(folder / "plan.json", asdict(plan))


def write_environment(folder: Path, facts: dict[str, Any]) -> None:
    """environment.json: package versions, machine, git commit, and what the caller adds."""
    machine = asdict(describe())
    body = {"versions": package_versions(), "machine": machine, "git": _git_commit(), **facts}
    write_json(folder / "environment.json", body)


def package_versions() -> dict[str, str]:
    """The installed versions of what the numbers depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES if _known(name)}


def _known(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _git_commit() -> str | None:
    """The commit of the working folder, `+` where files differ from it; None outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return done.stdout.strip()


def _lock(folder: Path) -> int:
    """Hold the folder until the handle is closed; the system lets go when we die."""
    for _ in range(_TRIES):
        if (handle := hold(folder / ".lock")) is not None:
            return handle
        time.sleep(_INSTANT)
    raise ConfigError(
        f"another process is training in {folder}: wait for it, or choose another name=NAME"
    )


def _move_aside(folder: Path) -> Path | None:
    """Move an earlier run's files into `NAME.1`, `NAME.2`, … beside the folder; returns which.

    One that ended before it froze its data has nothing worth keeping and is cleared away, but for
    config.yaml, which the caller replaces: who looks on sees a run all the time. Else it goes
    last: while it is there, a crash in between leaves a folder that is known to be a run's.
    """
    files = sorted(folder.iterdir(), key=lambda path: path.name == "config.yaml")
    if {path.name for path in files} <= _BEGINNINGS:
        for path in files:
            if path.name not in (".lock", "config.yaml"):
                path.unlink()
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    aside.mkdir()
    for path in files:
        if path.name != ".lock":
            path.rename(aside / path.name)
    return aside


def _adopt(config: RunConfig, folder: Path) -> None:
    """Check that the recipe may continue the run, and keep what it changes in config.yaml.

    Nothing of a complete run may change, since nothing would be done about it.
    """
    old = load_config(folder / "config.yaml")
    changed = _changed(old, config)
    complete = (folder / "results.json").is_file()
    refused = [key for key in changed if complete or not _may_change(key)]
    if refused:
        state = "is complete" if complete else "was started"
        raise ConfigError(
            f"{folder} {state} with other settings ({', '.join(refused)}): continue it with "
            f"{folder / 'config.yaml'}, or start anew with another name=NAME"
        )
    if not changed:
        return
    if any(key.startswith("evaluate") for key in changed):
        # Answers drawn under other settings cannot be compared with those to come.
        (folder / "samples.jsonl").unlink(missing_ok=True)
    kept = {"resume": old.resume, "out": old.out, "name": old.name}
    write_text(folder / "config.yaml", dump_config(config.model_copy(update=kept)))


def _changed(old: RunConfig, new: RunConfig) -> list[str]:
    """Dotted names of the settings that differ; where a run lies is none of them."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    found: list[str] = []
    for key in after:
        if key in _WHERE or before[key] == after[key]:
            continue
        if isinstance(after[key], dict):
            inner = [*after[key], *(name for name in before[key] if name not in after[key])]
            found += [f"{key}.{k}" for k in inner if before[key].get(k) != after[key].get(k)]
        else:
            found.append(key)
    return found


def _may_change(key: str) -> bool:
    section, _, name = key.partition(".")
    return section == "evaluate" or (section == "train" and name in _MAY_CHANGE_IN_TRAIN)
