"""Model folders that were made to run code, to lie or to break a library: refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.tiny import tiny_model

from palate.config import AdapterConfig, ConfigError
from palate.judge.holding import hold_reward_model
from palate.model.adapters import attach, beside
from palate.model.load import load, load_tokenizer
from palate.model.many_adapters import ManyAdapters

F32 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
ATTACKER = "import os\nos.mkdir(os.environ['PALATE_TEST_TRAP'])\nclass M: pass\n"


class Payload:
    """Makes the folder of the trap when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ["PALATE_TEST_TRAP"],)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is there as soon as any code of a model ran."""
    place = tmp_path / "ran"
    monkeypatch.setenv("PALATE_TEST_TRAP", str(place))
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "attacker.py").write_text(ATTACKER)
    return place


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "hostile"))


def refused(open_it: Callable[[], object], trap: Path) -> str:
    """What it is refused with: one line for a terminal, and nothing of it ran."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are each test's own
        open_it()
    said = str(caught.value)
    assert said.isprintable(), repr(said)
    assert len(said) < 1000
    assert not trap.exists()
    return said


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_trap_works(folder: Path, trap: Path) -> None:
    torch.save(Payload(), folder / "pytorch_model.bin")
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("opens", [load, hold_reward_model])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_not_opened(
    folder: Path, trap: Path, name: str, opens: Callable[..., object]
) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(Payload(), folder / name)
    if opens is load:
        assert f"only {name}: pickled" in refused(lambda: load(str(folder)), trap)
    else:
        change(folder / "config.json", architectures=["XForSequenceClassification"], num_labels=1)
        said = refused(lambda: hold_reward_model(str(folder), "cpu"), trap)
        assert f"only {name}: pickled" in said


@pytest.mark.parametrize(
    "shard", ["pytorch_model.bin", "../outside.safetensors", "/etc/x.safetensors", 5, ""]
)
def test_an_index_leads_to_no_other_file(
    folder: Path, trap: Path, shard: Any, tmp_path: Path
) -> None:
    shutil.move(folder / "model.safetensors", tmp_path / "outside.safetensors")
    torch.save(Payload(), folder / "pytorch_model.bin")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no safetensors file beside it" in refused(lambda: load(str(folder)), trap)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', "{}", "[" * 100_000])
def test_an_index_that_is_none(folder: Path, trap: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refused(lambda: load(str(folder)), trap)


def test_code_beside_a_model_does_not_run(folder: Path, trap: Path) -> None:
    (folder / "attacker.py").write_text(ATTACKER)
    auto = {"AutoConfig": "attacker.M", "AutoModelForCausalLM": "attacker.M"}
    change(folder / "config.json", auto_map=auto)
    load(str(folder))  # of a known kind: transformers' own class is used
    assert not trap.exists()
    change(folder / "config.json", model_type="attacker")
    assert "custom code" in refused(lambda: load(str(folder)), trap)


def test_code_beside_a_tokenizer_does_not_run(folder: Path, trap: Path) -> None:
    (folder / "attacker.py").write_text(ATTACKER)
    change(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["attacker.M", "attacker.M"]},
        tokenizer_class="Attacker",
    )
    assert "custom code" in refused(lambda: load_tokenizer(str(folder)), trap)


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": 10**12},
        {"hidden_size": "x"},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"model_type": 5},
        {"model_type": "\x1b[31mred"},
    ],
    ids=str,
)
def test_a_config_that_lies(folder: Path, trap: Path, values: dict[str, Any]) -> None:
    change(folder / "config.json", **values)
    assert "cannot be loaded" in refused(lambda: load(str(folder)), trap)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("raw", [b"{", b"[1]", b"[" * 100_000, b"\xff\xfe\x00", b"{}"])
def test_a_file_that_is_not_its_format(folder: Path, trap: Path, name: str, raw: bytes) -> None:
    if (name, raw) == ("tokenizer_config.json", b"{}"):
        pytest.skip("a tokenizer of defaults")
    (folder / name).write_bytes(raw)
    refused(lambda: load(str(folder)), trap)


def header(content: object, body: int = 16, length: int | None = None) -> bytes:
    """A safetensors file with this header, `body` zero bytes, and the length that it claims."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + b"\0" * body


BROKEN = {
    "a header of 2^63 bytes": header({}, length=2**63),
    "a header beyond the end": header({}, length=10_000),
    "no bytes": b"",
    "overlapping": header({"a": F32, "b": F32}),
    "beyond the end": header(
        {"a": {**F32, "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    ),
    "a hole": header({"a": {**F32, "data_offsets": [16, 32]}}, body=32),
    "backwards": header({"a": {**F32, "data_offsets": [16, 0]}}),
    "an unknown dtype": header({"a": {**F32, "dtype": "O"}}),
    "a shape of another size": header({"a": {**F32, "shape": [2, 3]}}),
    "a negative shape": header({"a": {**F32, "shape": [-2, -2]}}),
    "a shape beyond 64 bits": header({"a": {**F32, "shape": [2**40, 2**40]}}),
    "deep": header(b'{"a":' + b"[" * 100_000),
    "a pickle": b"\x80\x04K\x01.",
    "a zip": b"PK\x03\x04" + b"\0" * 60,
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
def test_safetensors_that_lie(folder: Path, trap: Path, raw: bytes) -> None:
    (folder / "model.safetensors").write_bytes(raw)
    assert "cannot be loaded" in refused(lambda: load(str(folder)), trap)


def test_weights_that_are_not_there_are_not_drawn_at_random(folder: Path, trap: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    gone = weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lacks 1 of its weights, such as model.norm.weight" in refused(
        lambda: load(str(folder)), trap
    )
    weights["../../model.norm.weight"] = gone  # a name is only a name
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lacks 1 of its weights" in refused(lambda: load(str(folder)), trap)


def saved(folder: Path, **more: Any) -> Path:
    """A saved adapter of rank 2 whose second factor is not 0."""
    options = {"target_modules": ["q_proj"], **more}
    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.1)
    adapted.save_pretrained(folder)
    return folder


def adapters(folder: Path) -> dict[str, Callable[[], object]]:
    """Each way in which a saved adapter is opened."""
    config = AdapterConfig(path=str(folder), rank=2, alpha=8)
    return {
        "merged": lambda: beside(tiny_model(), folder),
        "served": lambda: ManyAdapters(tiny_model(), [folder]),
        "trained on": lambda: attach(tiny_model(), config, 0),
    }


WAYS = ["merged", "served", "trained on"]


@pytest.mark.parametrize("way", WAYS)
def test_a_pickled_adapter_is_not_opened(tmp_path: Path, trap: Path, way: str) -> None:
    folder = saved(tmp_path / "adapter")
    adapters(folder)[way]()
    (folder / "adapter_model.safetensors").unlink()
    torch.save(Payload(), folder / "adapter_model.bin")
    assert "no adapter_model.safetensors" in refused(adapters(folder)[way], trap)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "values",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "attacker"},
        {"layer_replication": [[0, 1000]]},
        {"peft_type": "PROMPT_TUNING"},
        {"peft_type": ["x"]},
        {"alpha_pattern": {"(a+)+$": 1}},
        {"rank_pattern": [1]},
        {"r": "x"},
        {"r": -1},
    ],
    ids=str,
)
def test_an_adapter_is_lora_and_no_more(
    tmp_path: Path, trap: Path, way: str, values: dict[str, Any]
) -> None:
    folder = saved(tmp_path / "adapter")
    change(folder / "adapter_config.json", **values)
    refused(adapters(folder)[way], trap)


@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
def test_an_adapter_that_lies(tmp_path: Path, trap: Path, raw: bytes) -> None:
    folder = saved(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").write_bytes(raw)
    refused(adapters(folder)["merged"], trap)


def test_a_regular_expression_for_modules_is_not_tried(tmp_path: Path, trap: Path) -> None:
    """`(a+)+` takes 2^n steps over n letters; the names of the tensors say the same at once."""
    folder = saved(tmp_path / "adapter", target_modules=r".*\.q_proj")
    plain = saved(tmp_path / "plain")
    change(folder / "adapter_config.json", target_modules=r"(([\w.]+)+)+!")
    found, expected = (beside(tiny_model(), f).merge_and_unload() for f in (folder, plain))
    left, right = found.state_dict(), expected.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not torch.equal(
        left["model.layers.0.self_attn.q_proj.weight"],
        tiny_model().state_dict()["model.layers.0.self_attn.q_proj.weight"],
    )


def test_an_adapter_is_not_a_model(folder: Path, trap: Path) -> None:
    """transformers would go to the model that the adapter names, on the hub or anywhere."""
    saved(folder)
    change(folder / "adapter_config.json", base_model_name_or_path="somebody/else")
    assert "is an adapter, not a model" in refused(lambda: load(str(folder)), trap)


def test_an_adapter_is_not_a_model_for_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.path"):
        attach(tiny_model(), AdapterConfig(path=str(tmp_path)), 0)
