"""GGUF files: dequantised once, kept as safetensors, loaded from there ever after.

transformers dequantises a GGUF file, but the object it returns refuses training and
saving. So a fresh model is built from its config without `quantization_config`, given
the weights, and saved to the cache under the file's hash.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from palate.durable import file_hash
from palate.machine import cache_root

# Raised when what is written to the cache changes, so that old entries are not read.
_CACHE_VERSION = 1


def convert(path: Path) -> Path:
    """The folder with this GGUF file's model in transformers' format, made if it is not there.

    Raises `ValueError` when the file is no readable GGUF of a known architecture.
    """
    if not path.is_file():
        raise ValueError(f"there is no GGUF file {path}")
    target = cache_root() / "gguf" / f"v{_CACHE_VERSION}-{file_hash(path)[:24]}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    try:
        _convert_to(path, scratch)
        try:
            scratch.rename(target)
        except OSError:  # another process was first; its copy is as good
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert_to(path: Path, folder: Path) -> None:
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except ImportError as error:
        raise ValueError(
            "reading GGUF files needs the gguf package: pip install 'palate[gguf]'"
        ) from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a GGUF model: {error}") from error
    raw = loaded.config.to_dict()
    raw.pop("quantization_config", None)
    raw.pop("_name_or_path", None)
    config = AutoConfig.for_model(raw.pop("model_type"), **raw)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
