"""What a rank without weights gets from rank 0 is the model that rank 0 loaded, in each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.families import FAMILIES, IDS, random_model
from tests.tiny import save_tiny
from tests.train.test_base import saved_adapter
from torch import Tensor

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.load import Loaded, load, outline, weights_hash
from palate.model.policy import Policy
from palate.model.scalar import add_scalar_head
from palate.train import shard

CPU = torch.device("cpu")


class Wire:
    """Stands for the process group: what rank 0 broadcasts, rank 1 gets, in the same order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Tensor] = []
        self.sends = True
        monkeypatch.setattr(dist, "broadcast", self.broadcast)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        assert source == 0
        if self.sends:
            self.sent.append(tensor.clone())
        else:
            tensor.copy_(self.sent.pop(0))

    def bring(self, policy: Policy, *, everything: bool = True) -> None:
        shard._Bringing(CPU, everything=everything).bring(policy)


def saved(folder: Path, family: str) -> Path:
    """With the byte tokenizer, which no family's vocabulary of 64 fits: nobody tokenizes here."""
    save_tiny(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    random_model(family, 0).save_pretrained(folder)
    return folder


def both(folder: Path) -> tuple[Loaded, Loaded]:
    return load(str(folder)), outline(str(folder))


def tensors(model: Any) -> dict[str, Tensor]:
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_outline_becomes_the_model(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, without = both(saved(tmp_path, family))
    assert all(p.is_meta for p in without.model.parameters())
    assert without.end_ids == whole.end_ids
    wire = Wire(monkeypatch)
    wire.bring(Policy(whole.model))
    wire.sends = False
    wire.bring(Policy(without.model))
    assert wire.sent == []
    ours, theirs = tensors(without.model), tensors(whole.model)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    tied = [len({id(p) for p in model.parameters()}) for model in (without.model, whole.model)]
    assert tied[0] == tied[1]
    ids = torch.arange(3, 20)[None]
    assert IDS["eos_token_id"] not in ids
    assert torch.equal(without.model(input_ids=ids).logits, whole.model(input_ids=ids).logits)
    assert weights_hash(without.model) == weights_hash(whole.model)


def test_a_saved_adapter_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Twice: the one that is trained, and the frozen copy that is its reference."""
    adapter = saved_adapter(tmp_path / "adapter")
    loaded = both(save_tiny(tmp_path / "model"))
    for one in loaded:
        attach(one.model, AdapterConfig(rank=4, path=str(adapter)), 0)
    assert not [w for w in recwarn if "meta" in str(w.message)]
    whole, without = (one.model for one in loaded)
    wire = Wire(monkeypatch)
    wire.bring(Policy(whole))
    wire.sends = False
    wire.bring(Policy(without))
    names = [name for name, _ in without.named_parameters() if "lora_B" in name]
    assert {"default", "reference"} <= {part for name in names for part in name.split(".")}
    for name, ours in without.named_parameters():
        assert torch.equal(ours, whole.get_parameter(name)), name
        assert ours.requires_grad == whole.get_parameter(name).requires_grad


def test_adapters_and_heads_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one in bf16, as frozen weights are kept, and a tied head that has its own copy then."""
    loaded = both(save_tiny(tmp_path))
    policies = []
    for number, one in enumerate(loaded):
        attach(one.model, AdapterConfig(rank=4), seed=number)  # other draws: rank 0's must come
        one.model.model.norm.weight.data = one.model.model.norm.weight.data.bfloat16()
        policies.append(Policy(one.model))
        add_scalar_head(policies[-1])
    first, other = policies
    assert first.scalar is not None
    torch.nn.init.normal_(first.scalar.weight)
    wire = Wire(monkeypatch)
    wire.bring(first)
    wire.sends = False
    wire.bring(other)
    for (name, ours), (_, theirs) in zip(
        other.named_parameters(), first.named_parameters(), strict=True
    ):
        assert ours.requires_grad == theirs.requires_grad
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name
    assert {p.dtype for p in other.parameters()} == {torch.float32, torch.bfloat16}


def test_where_all_hold_the_weights_the_trained_ones_alone_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(str(save_tiny(tmp_path))).model
    attach(model, AdapterConfig(rank=4), 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    wire = Wire(monkeypatch)
    wire.bring(Policy(model), everything=False)
    assert len(wire.sent) == len(trained) > 0
    assert sum(one.numel() for one in wire.sent) == sum(4 * p.numel() for p in trained)
