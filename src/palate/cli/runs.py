"""What several commands ask of a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palate.config import ConfigError, RunConfig, load_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.records import Example


def is_run(folder: Path | str) -> bool:
    """Whether a run was started in this folder."""
    return (Path(folder) / "config.yaml").is_file()


def run_folder(folder: Path | str) -> Path:
    """The run's folder; of a run with stages, its last stage's that has begun."""
    folder = Path(folder)
    if not is_run(folder) or not load_config(folder / "config.yaml").stages:
        return folder
    from palate.stages import last_stage

    return last_stage(folder)


def run_config(folder: Path | str) -> RunConfig:
    """The resolved config of a run; `ConfigError` names the runs beside it when it is none."""
    folder = Path(folder)
    if is_run(folder):
        return load_config(folder / "config.yaml")
    beside = sorted(p.parent.name for p in folder.parent.glob("*/config.yaml"))
    there = f"; runs in {folder.parent}: {', '.join(beside[:8])}" if beside else ""
    raise ConfigError(f"there is no run in {folder} (it has no config.yaml){there}")


def finished_model(folder: Path | str) -> str:
    """The folder of the model that a run ships; `ConfigError` when it has not come that far."""
    folder = Path(folder)
    model = folder / "model"
    if not (model / "config.json").is_file():
        raise ConfigError(
            f"the run {folder} is not finished, so it has no model yet: continue it with "
            f"palate train {_recipe_of(folder)} resume=auto"
        )
    return str(model)


def _recipe_of(folder: Path) -> Path:
    """The recipe that trains the run: of a stage, that of the whole."""
    whole = folder.parent / "config.yaml"
    staged = whole.is_file() and bool(load_config(whole).stages)
    return whole if staged else folder / "config.yaml"


def shared_system(examples: Sequence[Example]) -> str | None:
    """The system prompt that all of the examples begin with, if they have one and the same."""
    found: set[str | None] = set()
    for example in examples:
        first = example.prompt[0] if example.prompt else None
        known = first is not None and first.role in {"system", "developer"}
        found.add(first.content if first is not None and known else None)
    return found.pop() if len(found) == 1 else None
