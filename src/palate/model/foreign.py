"""A model's files, which somebody else wrote, are looked at before a library opens them.

Weights are read from safetensors alone: a pickle runs code when it is opened, and torch's
restricted reader of pickles is a list of exceptions that has had holes. transformers follows an
index to whatever files it names, and a folder's `adapter_config.json` to another model; peft takes
`adapter_model.bin` where no safetensors is there, and imports the module that a config names.
Each of these is refused here, in one line, before anything is opened.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from torch import OutOfMemoryError

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_LARGEST_JSON = 64_000_000
"""Bytes of a config or an index; the index of a model with 100,000 tensors has 8 million."""
_NAME = re.compile(r"[\w.-]+")
_PATTERN = re.compile(r"\^?(?:[\w-]|\\?\.)+\$?")
"""A regular expression that is nearly a name, and takes no time."""
_MAY_BE_SET = (
    "task_type peft_type peft_version base_model_name_or_path revision inference_mode auto_mapping "
    "r target_modules exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora "
    "modules_to_save init_lora_weights layers_to_transform layers_pattern rank_pattern "
    "alpha_pattern trainable_token_indices use_dora lora_bias ensure_weight_tying"
)
"""In a LoRA config. The rest makes peft import a module that the file names (megatron_core), repeat
layers, or compute something that is not LoRA."""
_MODULE = re.compile(r"base_model\.model\.(.+)\.lora_(?:A|B|embedding_A|embedding_B)\b.*")


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Whatever a library says of files that it cannot read, as one `ValueError`: what, and why.

    Libraries fail in many ways over files that were made to break them (`KeyError`, `TypeError`,
    `RecursionError`, their own classes), and none of them is a fault of ours. Memory that ran out
    is something else, and passes.
    """
    try:
        yield
    except (OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what}: {_first_line(error)}") from error


def check_folder(folder: Path) -> None:
    """Raise `ValueError` where the weights of a model's folder are not safetensors of its own."""
    if (folder / ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"{folder} is an adapter, not a model: give its base as model.path, and the folder as "
            "adapter.path"
        )
    if (folder / INDEX).is_file():
        check_index(folder / INDEX)
    elif not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
        if pickled:
            raise ValueError(
                f"{folder} holds no safetensors, only {pickled[0]}: pickled weights can run code "
                "when they are opened, so they are not; have its author publish safetensors, or "
                "convert it on a machine that may be lost"
            )


def check_links(folder: Path) -> None:
    """Raise `ValueError` where a file of a model's folder is a link that leads out of it.

    The cache of the hub keeps a snapshot's files beside it, under `blobs`, and links to them.
    """
    home = folder.resolve()
    cache = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    for path in folder.iterdir():
        target = path.resolve()
        if not (target.is_relative_to(home) or target.is_relative_to(cache)):
            raise ValueError(
                f"{path} is a link to {target}, outside the model's folder: copy the file there if "
                "it belongs to it"
            )


def check_index(index: Path) -> None:
    """Raise `ValueError` where an index of shards names anything but safetensors beside it."""
    try:
        names = set(read_object(index)["weight_map"].values())
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} is no index of safetensors: it has no weight_map") from error
    for name in names:
        plain = isinstance(name, str) and _NAME.fullmatch(name) and name.endswith(".safetensors")
        if not plain:
            shown = str(name)[:100]
            raise ValueError(f"{index} names '{shown}', which is no safetensors file beside it")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; `ValueError` for every other, and for a giant."""
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path} has more than {_LARGEST_JSON // 1_000_000} MB")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def lora_config(folder: Path) -> LoraConfig:
    """The config of a saved LoRA adapter whose weights are safetensors, for these weights alone.

    Which modules it is put on is taken from the names of its tensors: in the file that may be a
    regular expression, with which a few letters take years. Raises `ValueError`.
    """
    missing = [n for n in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / n).is_file()]
    if missing:
        pickled = (folder / "adapter_model.bin").is_file()
        why = "; adapter_model.bin is pickled, and opening it could run code" if pickled else ""
        raise ValueError(f"{folder} holds no adapter: there is no {' and no '.join(missing)}{why}")
    raw = read_object(folder / ADAPTER_CONFIG)
    if raw.get("peft_type") != "LORA":
        raise ValueError(f"{folder} holds a {raw.get('peft_type')} adapter, not LoRA")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = raw.get(name) or {}
        if not isinstance(patterns, dict) or not all(_PATTERN.fullmatch(key) for key in patterns):
            raise ValueError(f"{folder / ADAPTER_CONFIG}: {name} names no plain modules")
    with in_one_line(f"{folder / ADAPTER_CONFIG} cannot be read"):
        config = LoraConfig.from_pretrained(str(folder))
    _refuse_more_than_lora(config, folder)
    if isinstance(config.target_modules, str) or config.exclude_modules or config.layers_pattern:
        config.target_modules = modules_of(folder)
        config.exclude_modules = config.layers_pattern = config.layers_to_transform = None
    return config  # type: ignore[no-any-return]


def _refuse_more_than_lora(config: LoraConfig, folder: Path) -> None:
    default = LoraConfig()
    for entry in dataclasses.fields(config):
        same = getattr(config, entry.name) == getattr(default, entry.name)
        if not same and entry.name not in _MAY_BE_SET.split():
            raise ValueError(f"{folder / ADAPTER_CONFIG} sets {entry.name}, which is no plain LoRA")


def modules_of(folder: Path) -> set[str]:
    """The modules that an adapter's tensors belong to, by their whole names."""
    with (
        in_one_line(f"{folder / ADAPTER_WEIGHTS} cannot be read"),
        safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file,
    ):
        names = list(file.keys())
    return {found[1] for name in names if (found := _MODULE.fullmatch(name))}


def _first_line(error: BaseException) -> str:
    """The first line of what an error says, without what a terminal would obey, cut short."""
    said = str(error).strip()
    if isinstance(error, SafetensorError):
        said = f"no safetensors: {said}"
    line = said.splitlines()[0] if said else ""
    shown = "".join(c for c in line if c.isprintable())[:300]
    kind = type(error).__name__
    return shown if isinstance(error, OSError | ValueError) and shown else f"{kind}: {shown}"
