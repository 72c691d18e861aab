"""RunConfig: one YAML file is one run, or several stages of one.

Strict: an unknown key is an error that names the nearest valid one. The
parameters of a method are not here but beside its loss (`palate.losses`), so
`method` is kept as written and checked when the run starts. Nothing in this file
imports torch: `palate --help` and the data commands stay instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from palate.problems import explain
from palate.recipe_text import SHORTHAND, ConfigError, Dumper, Loader, apply_overrides, nearest
from palate.sections import (
    AdapterConfig,
    DataConfig,
    EvaluateConfig,
    FilterConfig,
    GateConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    Section,
    TrainConfig,
)

__all__ = [
    "AdapterConfig",
    "ConfigError",
    "DataConfig",
    "EvaluateConfig",
    "FilterConfig",
    "GateConfig",
    "ModelConfig",
    "OptimConfig",
    "RolloutConfig",
    "RunConfig",
    "Section",
    "TrainConfig",
    "apply_overrides",
    "build_config",
    "dump_config",
    "load_config",
    "nearest",
]


class RunConfig(Section):
    """Everything that decides a run; written, resolved, to `runs/NAME/config.yaml`."""

    name: str = Field("run", description="Name of the run, and of its folder.")
    out: str = Field("runs", description="Folder that holds the run folders.")
    seed: int = Field(
        0, ge=0, description="Decides the split, the order, the adapter, the samples."
    )
    model: ModelConfig
    data: DataConfig
    method: dict[str, Any] | list[dict[str, Any]] = Field(
        default_factory=lambda: {"name": "dpo"},
        description="The method and its parameters, for instance `{name: dpo, beta: 0.1}`, or a "
        "weighted sum as `[{name: dpo}, {name: nll, weight: 0.2}]`; see the method index.",
    )
    adapter: AdapterConfig = AdapterConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    rollout: RolloutConfig | None = Field(
        None,
        description="How the model samples the answers that it learns from, and who judges them; "
        "default: it learns from the answers in the data. Methods such as `grpo` need it, and any "
        "method of pairs or demonstrations takes it.",
    )
    stages: list[dict[str, Any]] = Field(
        [],
        description="Runs one after another, each on the model of the one before: the names of "
        "methods, or mappings of the settings in which a stage differs from the recipe, as in "
        "`[sft, {method: dpo, train: {epochs: 2}}]`.",
    )
    resume: Literal["never", "auto"] = Field(
        "never",
        description="`auto` continues from the folder's last good checkpoint, if there is one.",
    )

    @field_validator(*SHORTHAND, mode="before")
    @classmethod
    def _section_by_its_main_key(cls, value: object, info: ValidationInfo) -> object:
        short = isinstance(value, str) or (info.field_name == "data" and isinstance(value, list))
        return {SHORTHAND[str(info.field_name)]: value} if short else value

    @field_validator("adapter")
    @classmethod
    def _four_bits_are_frozen(cls, value: AdapterConfig, info: ValidationInfo) -> AdapterConfig:
        model = info.data.get("model")
        if value.kind == "full" and model is not None and model.quantize != "none":
            raise ValueError(
                f"weights kept in {model.quantize} cannot be trained: use adapter.kind=lora, or "
                "model.quantize=none"
            )
        return value

    @field_validator("stages", mode="before")
    @classmethod
    def _stage_by_its_method(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [{"method": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("method", mode="before")
    @classmethod
    def _method_has_a_name(cls, value: object) -> object:
        if isinstance(value, list):
            value = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
        entries = value if isinstance(value, list) else [value]
        if any(isinstance(entry, dict) and "name" not in entry for entry in entries) or not entries:
            raise ValueError("a method needs a name, for instance `method: {name: dpo}`")
        return value

    @field_validator("name")
    @classmethod
    def _name_is_one_folder(cls, value: str) -> str:
        if not value or value in {".", ".."} or any(c in value for c in "/\\\0"):
            raise ValueError("the name of a run becomes a folder: no slashes, not empty")
        return value

    @property
    def folder(self) -> Path:
        """`OUT/NAME`, where everything the run writes goes."""
        return Path(self.out) / self.name


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML recipe, apply `key=value` overrides, and check everything.

    Raises `ConfigError` with one line per problem.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the recipe {path} is not UTF-8 text: save it as UTF-8") from error
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 - a safe loader with one more number
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"the recipe {path} is not valid YAML{line}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"the recipe {path} must be a mapping of settings, such as `model: …`")
    return build_config(apply_overrides(raw, overrides), origin=str(path))


def build_config(raw: dict[str, Any], origin: str = "the config") -> RunConfig:
    """Check a plain mapping and return the config; `ConfigError` names the nearest key."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {explain(error, RunConfig)}") from error


def dump_config(config: RunConfig) -> str:
    """The config as YAML that `load_config` reads back to an equal one."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
