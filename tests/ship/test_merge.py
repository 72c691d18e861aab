"""The model that ships: plain transformers loads it, and it is base plus adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.tiny import byte_tokenizer, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.config import AdapterConfig
from palate.durable import verify_folder
from palate.model.adapters import attach
from palate.model.load import to_compute
from palate.ship.merge import ship_adapter, ship_full

IDS = torch.tensor([[1, 2, 3, 200, 257, 5, 6]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits  # type: ignore[no-any-return]


def adapted(family: str, precision: str = "fp32") -> tuple[Any, Any]:
    model = tiny_model(family)
    peft = attach(model, AdapterConfig(rank=4), seed=1)
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    to_compute(model, precision)  # type: ignore[arg-type]
    return model.eval(), peft


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_the_merged_model_is_base_plus_adapter(tmp_path: Path, family: str) -> None:
    model, peft = adapted(family)
    wanted = logits(model)
    ship_adapter(
        peft, tiny_model(family), byte_tokenizer(), tmp_path / "model", tmp_path / "adapter"
    )
    shipped = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert (logits(shipped) - wanted).abs().max() < 1e-5
    assert (logits(tiny_model(family)) - wanted).abs().max() > 1e-2
    beside = PeftModel.from_pretrained(tiny_model(family), tmp_path / "adapter").eval()
    assert (logits(beside) - wanted).abs().max() < 1e-5


def test_it_is_merged_in_fp32_whatever_was_trained_in(tmp_path: Path) -> None:
    """The frozen weights that were trained beside are bf16; those that ship are the file's."""
    _, peft = adapted("llama", "bf16")
    fp32, _ = adapted("llama", "fp32")
    ship_adapter(peft, tiny_model(), byte_tokenizer(), tmp_path / "model", tmp_path / "adapter")
    shipped = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert {w.dtype for w in load_file(tmp_path / "model" / "model.safetensors").values()} == {
        torch.float32
    }
    assert (logits(shipped) - logits(fp32)).abs().max() < 1e-5


def test_no_trace_of_the_adapter_is_left_in_the_model(tmp_path: Path) -> None:
    _, peft = adapted("llama")
    ship_adapter(peft, tiny_model(), byte_tokenizer(), tmp_path / "model", tmp_path / "adapter")
    names = set(load_file(tmp_path / "model" / "model.safetensors"))
    assert names == {n for n, _ in tiny_model().named_parameters()}
    assert not any((tmp_path / "model").glob("adapter*"))
    for folder in ("model", "adapter"):
        verify_folder(tmp_path / folder)
        assert not any((tmp_path / folder).glob("*.bin"))


def test_a_fully_trained_model_and_its_tokenizer(tmp_path: Path) -> None:
    model = tiny_model(seed=4)
    ship_full(model, byte_tokenizer(), tmp_path / "model")
    shipped = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(logits(shipped), logits(model))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    turns = [{"role": "user", "content": "hellö"}]
    ours = byte_tokenizer().apply_chat_template(turns, add_generation_prompt=True)
    assert tokenizer.apply_chat_template(turns, add_generation_prompt=True) == ours


def test_an_earlier_model_is_replaced_or_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    ship_full(tiny_model(seed=1), byte_tokenizer(), target)
    ship_full(tiny_model(seed=2), byte_tokenizer(), target)
    shipped = AutoModelForCausalLM.from_pretrained(target)
    assert torch.equal(logits(shipped.eval()), logits(tiny_model(seed=2)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palate.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ship_full(tiny_model(seed=3), byte_tokenizer(), target)
    shipped = AutoModelForCausalLM.from_pretrained(target)
    assert torch.equal(logits(shipped.eval()), logits(tiny_model(seed=2)))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
