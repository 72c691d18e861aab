"""Writing a model folder of transformers as one GGUF file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from palate.ship.families import Family, family_of, rope_tensors, tell
from palate.ship.vocabulary import check_tokenizer, write_vocabulary

Kind = Literal["f32", "f16", "bf16"]
_HEADS = re.compile(r"self_attn\.(q|k)_proj\.(weight|bias)$")
_F16_MOST = 65504.0


def check_convertible(config: Any, tokenizer: Any) -> None:
    """Raise `ValueError`, before any work, for what cannot be written; also without `gguf`."""
    family_of(config)
    check_tokenizer(tokenizer)
    try:
        import gguf  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ValueError("writing GGUF needs: pip install 'palate[gguf]'") from error


def write_gguf(
    model: Path,
    config: Any,
    tokenizer: Any,
    end_ids: tuple[int, ...],
    target: Path,
    *,
    kind: Kind,
    name: str,
) -> None:
    """Write the weights in `model` (a folder with safetensors), with the tokenizer, to `target`.

    Matrices in `kind`, vectors in fp32. Raises `ValueError` for a tensor that has no place in
    the architecture, or whose values fp16 cannot hold.
    """
    import gguf

    family = family_of(config)
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == family.arch)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    # Tensors wait in a temporary file, so that no second copy of the model is in memory.
    writer = gguf.GGUFWriter(target, family.arch, use_temp_file=True)
    try:
        writer.add_name(name)
        writer.add_file_type(_file_type(kind))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        tell(writer, family, config)
        write_vocabulary(writer, tokenizer, config.vocab_size, end_ids)
        for key, tensor in rope_tensors(config).items():
            writer.add_tensor(key, tensor.numpy())
        for key, tensor in _tensors(model, config):
            place = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if place is None:
                raise ValueError(f"the tensor {key} has no place in llama.cpp's {family.arch}")
            _add(writer, place, _arranged(key, tensor, family, config), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _file_type(kind: Kind) -> int:
    import gguf

    names = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    return int(gguf.LlamaFileType[names[kind]])


def _tensors(model: Path, config: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder, one at a time, fp32; a tied head is the embedding again."""
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - the handle is no mapping
                if key != "lm_head.weight" or not config.tie_word_embeddings:
                    yield key, file.get_tensor(key).float()


def _arranged(key: str, tensor: Tensor, family: Family, config: Any) -> Tensor:
    """The tensor as llama.cpp computes with it."""
    if family.norms_from_one and key.endswith("norm.weight"):
        return tensor + 1
    heads = _HEADS.search(key)
    if heads is None or not family.interleaved:
        return tensor
    count = config.num_attention_heads if heads[1] == "q" else config.num_key_value_heads
    return interleave(tensor, count)


def interleave(tensor: Tensor, heads: int) -> Tensor:
    """Rows of each head from (first half, second half) to neighbouring pairs.

    Row i of a half and row i of the other are rotated together: (0, h, 1, h + 1, …).
    """
    rest = tensor.shape[1:]
    halves = tensor.reshape(heads, 2, -1, *rest)
    return halves.transpose(1, 2).reshape(tensor.shape)


def _add(writer: Any, place: str, tensor: Tensor, kind: Kind) -> None:
    import gguf

    if tensor.ndim < 2 or kind == "f32":
        writer.add_tensor(place, tensor.contiguous().numpy())
        return
    if kind == "bf16":
        rounded = tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
        writer.add_tensor(place, rounded, raw_dtype=gguf.GGMLQuantizationType.BF16)
        return
    if tensor.abs().max() > _F16_MOST:
        raise ValueError(f"{place} has values beyond what fp16 holds: export with --quantize bf16")
    writer.add_tensor(place, tensor.half().contiguous().numpy())
