"""What a rank without weights gets from rank 0 is the model that rank 0 loaded, in each family."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.families import FAMILIES, IDS, random_model
from tests.tiny import save_tiny
from tests.train.tasks import pair
from tests.train.test_base import saved_adapter
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef

from palate.config import AdapterConfig
from palate.model.adapters import adapters_off, attach, trainable
from palate.model.load import Loaded, load, outline, to_compute, weights_hash
from palate.model.policy import Policy
from palate.model.scalar import add_scalar_head
from palate.model.score import score
from palate.train import shard
from palate.train.parallel import Ranks
from palate.train.reference import cached_reference
from palate.train.shard import Entry, check_fits, entries

CPU = torch.device("cpu")


class Wire:
    """Stands for the process group: what rank 0 broadcasts, rank 1 gets, in the same order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Tensor] = []
        self.sends = True
        self.listed: list[Entry] = []
        monkeypatch.setattr(dist, "broadcast", self.broadcast)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        assert source == 0
        if self.sends:
            self.sent.append(tensor.clone())
        else:
            tensor.copy_(self.sent.pop(0))

    def bring(self, first: Policy, other: Policy | None = None) -> None:
        """As `Ranks.wrap` does, without dividing: rank 0's tensors, and then the other's."""
        told = entries(first, everything=other is not None)
        self.listed = [Entry.of(json.loads(json.dumps(asdict(one)))) for one in told]
        self._all(first)
        self.sends = False
        if other is not None:
            check_fits(other, self.listed)
            self._all(other)
            assert self.sent == []

    def _all(self, policy: Policy) -> None:
        bringing = shard._Bringing(policy, CPU, self.listed)
        for number in range(len(shard._units(policy))):
            bringing.bring(number)


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
    Wire(monkeypatch).bring(Policy(whole.model), Policy(without.model))
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
    Wire(monkeypatch).bring(Policy(whole), Policy(without))
    names = [name for name, _ in without.named_parameters() if "lora_B" in name]
    assert {"default", "reference"} <= {part for name in names for part in name.split(".")}
    for name, ours in without.named_parameters():
        assert torch.equal(ours, whole.get_parameter(name)), name
        assert ours.requires_grad == whole.get_parameter(name).requires_grad


def test_adapters_and_heads_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16, as frozen weights are kept, with a tied head that has a copy of its own then."""
    loaded = both(save_tiny(tmp_path))
    policies = []
    for number, one in enumerate(loaded):
        attach(one.model, AdapterConfig(rank=4), seed=number)  # other draws: rank 0's must come
        to_compute(one.model, "bf16")
        one.model.get_output_embeddings().weight.requires_grad_(False)
        policies.append(Policy(one.model))
        add_scalar_head(policies[-1])
    first, other = policies
    assert first.scalar is not None
    torch.nn.init.normal_(first.scalar.weight)
    Wire(monkeypatch).bring(first, other)
    assert len(list(other.parameters())) == len(list(first.parameters()))
    for (name, ours), (_, theirs) in zip(
        other.named_parameters(), first.named_parameters(), strict=True
    ):
        assert ours.requires_grad == theirs.requires_grad
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name
    assert {p.dtype for p in other.parameters()} == {torch.float32, torch.bfloat16}


def test_what_is_not_tied_on_rank_0_is_not_tied_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkpoint with a head of its own, though its config says tied."""
    whole, without = (one.model for one in both(save_tiny(tmp_path)))
    assert without.lm_head.weight is without.model.embed_tokens.weight, "premise"
    whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight.detach() + 1)
    Wire(monkeypatch).bring(Policy(whole), Policy(without))
    assert torch.equal(without.lm_head.weight, whole.lm_head.weight)
    assert torch.equal(without.model.embed_tokens.weight, whole.model.embed_tokens.weight)


def test_what_rank_0_alone_keeps_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rotary frequencies that a family makes in its first forward pass: rank 0's has been."""
    whole, without = (one.model for one in both(save_tiny(tmp_path)))
    whole.model.rotary_emb.long_inv_freq = torch.arange(3.0)
    Wire(monkeypatch).bring(Policy(whole), Policy(without))
    assert torch.equal(without.model.rotary_emb.long_inv_freq, torch.arange(3.0))
    assert "long_inv_freq" not in dict(without.model.rotary_emb.named_buffers())


def test_another_shape_is_one_line(tmp_path: Path) -> None:
    whole, without = (one.model for one in both(save_tiny(tmp_path)))
    weight = whole.model.norm.weight
    whole.model.norm.weight = torch.nn.Parameter(torch.zeros(3))
    said = r"at model\.model\.norm\.weight on this rank, and \(3,\) on rank 0"
    with pytest.raises(ValueError, match=said):
        check_fits(Policy(without), entries(Policy(whole), everything=True))
    whole.model.norm.weight, whole.model.norm.more = weight, torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match=r"has nothing at model\.model\.norm\.more"):
        check_fits(Policy(without), entries(Policy(whole), everything=True))


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Divided(Ranks):
    """Alone in a group of one that divides the weights."""

    parallel: Any = "fsdp"


def test_looking_at_the_reference_changes_nothing_that_is_trained(
    tmp_path: Path, one_rank: None
) -> None:
    """Also where the adapter is on the head, which stays gathered after a pass without gradient."""
    policy = Policy(load(str(save_tiny(tmp_path / "model"))).model)
    adapted = attach(policy.model, AdapterConfig(rank=4, targets=["q_proj", "lm_head"]), 0)
    names = set(trainable(policy))
    assert any("lm_head" in name for name in names)
    shard.shard(policy, 1, 1, CPU, entries(policy, everything=True))
    examples = [pair(number) for number in range(3)]
    found = cached_reference(
        policy,
        lambda: adapters_off(adapted),
        examples,
        tmp_path,
        weights="",
        budget=60,
        ranks=Divided(),
    )
    weights = trainable(policy)
    assert set(weights) == names
    assert {type(weight.data) for weight in weights.values()} == {DTensor}
    plain = Policy(load(str(tmp_path / "model")).model)
    for row, values in enumerate(score(plain, examples, 60)):
        assert torch.allclose(found.by_row[row], values, atol=1e-5)


@pytest.mark.parametrize("holds", [True, False], ids=["rank 0", "another"])
def test_a_rank_keeps_no_unit_whole_that_it_has_divided(
    tmp_path: Path, one_rank: None, monkeypatch: pytest.MonkeyPatch, holds: bool
) -> None:
    whole, without = both(save_tiny(tmp_path / "model"))
    policy = Policy((whole if holds else without).model)
    listed = entries(Policy(whole.model), everything=True)
    units: list[list[StorageWeakRef]] = []
    kept: list[int] = []

    def divide(unit: Any, **how: Any) -> None:
        gc.collect()
        kept.append(sum(not ref.expired() for before in units for ref in before))
        units.append([StorageWeakRef(w.data.untyped_storage()) for w in unit.parameters()])
        real(unit, **how)

    real = shard.fully_shard
    monkeypatch.setattr(shard, "fully_shard", divide)
    shard.shard(policy, 1, 1, CPU, listed)
    assert [len(unit) > 0 for unit in units] == [True, True, True]
    assert kept == [0, 0, 0]


def test_where_all_hold_the_weights_the_trained_ones_alone_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(str(save_tiny(tmp_path))).model
    attach(model, AdapterConfig(rank=4), 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    wire = Wire(monkeypatch)
    wire.bring(Policy(model))
    assert len(wire.sent) == len(trained) > 0
    assert sum(one.numel() for one in wire.sent) == sum(4 * p.numel() for p in trained)
