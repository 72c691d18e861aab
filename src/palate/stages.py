"""Several stages of one recipe: each a run of its own, on the model that the one before shipped.

`runs/NAME/` holds a folder for each stage (`1-sft`, `2-dpo`, …), and in `results.json` what they
gave. A stage's reference is the model it starts from, which is the one before's. A prompt that one
stage held out is held out in those that follow, and one that was trained on is not measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from palate.config import ConfigError, RunConfig, build_config, dump_config, load_config
from palate.durable import write_json, write_text
from palate.progress import Quiet, Reporter
from palate.run import Run, train
from palate.store.snapshot import read_snapshot

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
        if before is not None and "model" not in changes:
            raw["model"] = {**raw["model"], "path": str(before.folder / "model")}
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
    _adopt(config)
    known: dict[str, bool] = {}
    results: list[dict[str, Any]] = []
    run = None
    for number, stage in enumerate(stages, 1):
        say.note(f"stage {number} of {len(stages)}: {_method_name(stage)}, in {stage.folder}")
        run = train(stage, reporter=say, should_stop=should_stop, known=known)
        results.append({"stage": stage.name, **run.results})
        data = read_snapshot(run.folder / "snapshot")
        for side, examples in ((False, data.train), (True, data.heldout)):
            known |= {example.prompt_key: side for example in examples}
    assert run is not None, "a recipe with stages has one"
    write_json(config.folder / "results.json", {"stages": results})
    return run


def _adopt(config: RunConfig) -> None:
    """Keep the recipe in the folder; refuse a folder that holds another run."""
    place = config.folder / "config.yaml"
    if place.is_file():
        old = load_config(place)
        where = {"resume": config.resume, "out": config.out, "name": config.name}
        if config.resume != "auto" or old.model_copy(update=where) != config:
            raise ConfigError(
                f"{config.folder} holds another run: continue it with its own recipe and "
                "resume=auto, or start anew with another name=NAME"
            )
        return
    config.folder.mkdir(parents=True, exist_ok=True)
    write_text(place, dump_config(config))


def last_stage(folder: Path) -> Path:
    """The folder of the last stage that has begun, of a run with stages; else `folder` itself."""
    place = folder / "config.yaml"
    if not place.is_file() or (folder / "plan.json").is_file():
        return folder
    config = load_config(place)
    begun = [stage.folder for stage in _placed(config, folder) if stage.folder.is_dir()]
    return begun[-1] if begun else folder


def _placed(config: RunConfig, folder: Path) -> list[RunConfig]:
    """The stages of a run that may have been moved since it was written."""
    moved = config.model_copy(update={"out": str(folder.parent), "name": folder.name})
    return stage_configs(moved)


def _merged(common: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections key by key; a method whole, because its parameters are another's."""
    out = dict(common)
    for key, value in changes.items():
        old = out.get(key)
        if key != "method" and isinstance(old, dict) and isinstance(value, dict):
            out[key] = {**old, **value}
        else:
            out[key] = value
    return out


def _method_name(config: RunConfig) -> str:
    entries = config.method if isinstance(config.method, list) else [config.method]
    return "+".join(str(entry["name"]) for entry in entries)
