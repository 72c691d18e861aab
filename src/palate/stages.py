"""Several stages of one recipe: each a run of its own, on the model that the one before shipped.

`runs/NAME/` holds a folder for each stage (`1-sft`, `2-dpo`, …), and in `results.json` what they
gave. A stage's reference is the model it starts from, which is the one before's. A prompt that one
stage held out is held out in those that follow, and one that was trained on is not measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palate.config import ConfigError, RunConfig, build_config, load_config
from palate.durable import write_json
from palate.losses.registry import method_of
from palate.progress import Quiet, Reporter
from palate.recipe_text import SHORTHAND
from palate.run import Run, train
from palate.store.snapshot import read_snapshot
from palate.train.folder import open_folder
from palate.train.parallel import join

# What a stage may not say of itself: it follows from the recipe.
_FIXED = ("stages", "out", "name", "resume")


def stage_configs(config: RunConfig) -> list[RunConfig]:
    """The config of each stage; raises `ConfigError` naming the stage that is wrong."""
    common = config.model_dump(mode="json", exclude={"stages"})
    found: list[RunConfig] = []
    for number, changes in enumerate(config.stages, 1):
        origin = f"stage {number}"
        wrong = [key for key in changes if key in _FIXED]
        if wrong:
            raise ConfigError(f"{origin}: '{wrong[0]}' is the recipe's and not a stage's")
        raw = _merged(common, changes)
        before = found[-1] if found else None
        if before is not None and not _names_path(changes, "model"):
            raw["model"] = {**raw["model"], "path": str(before.folder / "model")}
            if not _names_path(changes, "adapter"):
                raw["adapter"] = {**raw["adapter"], "path": None}
        raw["out"], raw["name"] = str(config.folder), "stage"
        checked = build_config(raw, origin)
        found.append(checked.model_copy(update={"name": f"{number}-{_method_name(checked)}"}))
    return found


def train_stages(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Train all stages; the last one's run. Stages that are complete are not trained again.

    Raises what `palate.run.train` raises.
    """
    say = reporter or Quiet()
    stages = stage_configs(config)
    check_methods(config)
    with ExitStack() as stack:
        with join(config.train.parallel, config.train.rank_timeout) as ranks:
            ranks.on_main(lambda: _open(config, stages, stack))
        runs = _train_all(stages, say if ranks.is_main else Quiet(), should_stop)
        if ranks.is_main:
            results = [{"stage": run.config.name, **run.results} for run in runs]
            write_json(config.folder / "results.json", {"stages": results})
    return runs[-1]


def check_methods(config: RunConfig) -> None:
    """Raise `ConfigError` for a method or a parameter that is wrong, in whichever stage.

    Not after a model has been loaded, nor after hours in the stages before it.
    """
    stages = stage_configs(config) if config.stages else [config]
    for number, stage in enumerate(stages, 1):
        try:
            method_of(stage)
        except ValueError as error:
            origin = f"stage {number}: " if config.stages else ""
            raise ConfigError(f"{origin}{error}") from error


def _open(config: RunConfig, stages: list[RunConfig], stack: ExitStack) -> bool:
    """Hold the folder of the whole; refuse settings that a stage that is complete did not have.

    Before they are written down: what may change of one run cannot be done to another's past.
    """
    begun = config.resume == "auto" and not (config.folder / "results.json").is_file()
    for number, stage in enumerate(stages if begun else (), 1):
        if not (stage.folder / "results.json").is_file():
            continue
        where = {"resume": stage.resume, "out": stage.out, "name": stage.name}
        if load_config(stage.folder / "config.yaml").model_copy(update=where) != stage:
            raise ConfigError(
                f"stage {number} is complete with other settings than these: continue with "
                f"{config.folder / 'config.yaml'} as it is, or start anew with another name=NAME"
            )
    return stack.enter_context(open_folder(config))[1]


def _train_all(
    stages: list[RunConfig], say: Reporter, should_stop: Callable[[], bool]
) -> list[Run]:
    known: dict[str, bool] = {}
    runs: list[Run] = []
    for number, stage in enumerate(stages, 1):
        say.note(f"stage {number} of {len(stages)}: {_method_name(stage)}, in {stage.folder}")
        runs.append(train(stage, reporter=say, should_stop=should_stop, known=known))
        data = read_snapshot(stage.folder / "snapshot")
        for side, examples in ((False, data.train), (True, data.heldout)):
            known |= {example.prompt_key: side for example in examples}
    return runs


def examined(config: RunConfig) -> list[RunConfig]:
    """The stages as they can be looked at before any has trained.

    Each with the model that the first of them starts from: it has the sizes and the tokens of
    those that will come of it.
    """
    origin: dict[str, str] = {}
    found: list[RunConfig] = []
    for stage in stage_configs(config):
        path = origin.get(stage.model.path, stage.model.path)
        origin[str(stage.folder / "model")] = path
        model = stage.model.model_copy(update={"path": path})
        found.append(stage.model_copy(update={"model": model}))
    return found


def begun_stages(folder: Path) -> list[Path]:
    """The folders of the stages that have begun, in order; none of a run without stages."""
    config = load_config(folder / "config.yaml")
    return [stage.folder for stage in _placed(config, folder) if stage.folder.is_dir()]


def last_stage(folder: Path) -> Path:
    """The folder of the last stage that has begun; `folder` itself where none has."""
    begun = begun_stages(folder)
    return begun[-1] if begun else folder


def _placed(config: RunConfig, folder: Path) -> list[RunConfig]:
    """The stages of a run that may have been moved since it was written."""
    moved = config.model_copy(update={"out": str(folder.parent), "name": folder.name})
    return stage_configs(moved)


def _names_path(changes: dict[str, Any], section: str) -> bool:
    """Whether a stage says by itself what it starts from."""
    given = changes.get(section)
    if isinstance(given, str):
        return SHORTHAND[section] == "path"
    return isinstance(given, dict) and given.get("path") is not None


def _merged(common: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections key by key; a method whole, because its parameters are another's."""
    out = dict(common)
    for key, given in changes.items():
        old, value = out.get(key), given
        if key == "method" or not isinstance(old, dict):
            out[key] = value
            continue
        if key in SHORTHAND and isinstance(value, str | list):
            value = {SHORTHAND[key]: value}
        out[key] = {**old, **value} if isinstance(value, dict) else value
    return out


def _method_name(config: RunConfig) -> str:
    entries = config.method if isinstance(config.method, list) else [config.method]
    return "+".join(str(entry["name"]) for entry in entries)
