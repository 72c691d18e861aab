"""What a run starts from, and the hashes that name it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import save_tiny, tiny_model

from palate.config import AdapterConfig, ConfigError, RunConfig
from palate.model.adapters import as_reference, attach, trainable
from palate.model.load import weights_hash
from palate.model.nf4 import NF4Linear
from palate.model.saved_adapter import adapter_hash
from palate.train.base import load_base
from palate.train.parallel import Ranks

needs_nf4 = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs palate[quant]"
)
IDS = torch.tensor([[1, 2, 3, 4]])


def config(folder: Path, **changes: Any) -> RunConfig:
    raw: dict[str, Any] = {"model": {"path": str(folder)}, "data": "pairs.jsonl"}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value}
    return RunConfig.model_validate(raw)


def saved_adapter(folder: Path, seed: int = 1) -> Path:
    model = tiny_model()
    adapted = attach(model, AdapterConfig(rank=4), 0)
    assert adapted is not None
    with torch.no_grad():
        for weight in trainable(model).values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    adapted.save_pretrained(folder)
    return folder


def test_a_plain_base_is_named_by_its_weights(tmp_path: Path) -> None:
    base = load_base(config(save_tiny(tmp_path)), "cpu")
    assert base.sha256 == base.reference_sha256 == weights_hash(tiny_model())
    assert base.quantised == 0
    assert base.parameters == sum(p.numel() for p in tiny_model().parameters())


@needs_nf4
def test_4_bits_have_a_name_of_their_own(tmp_path: Path) -> None:
    base = load_base(config(save_tiny(tmp_path), model={"quantize": "nf4"}), "cpu")
    again = load_base(config(tmp_path, model={"quantize": "nf4"}), "cpu")
    assert base.sha256 == weights_hash(tiny_model()), "what ships is merged into these"
    assert base.reference_sha256 == again.reference_sha256 != base.sha256
    assert base.parameters == sum(p.numel() for p in tiny_model().parameters())
    layers = [m for m in base.loaded.model.modules() if isinstance(m, NF4Linear)]
    assert base.quantised == sum(m.in_features * m.out_features for m in layers) > 0


class Divided(Ranks):
    """One of two ranks that divide the weights; rank 0 has said what `on_main` gives."""

    parallel: Any = "fsdp"

    def __init__(self, rank: int, said: str = "") -> None:
        self.rank, self.said = rank, said

    def on_main(self, work: Callable[[], Any]) -> Any:
        return work() if self.is_main else self.said


def test_of_ranks_that_divide_the_weights_the_first_alone_loads_them(tmp_path: Path) -> None:
    recipe = config(save_tiny(tmp_path))
    first = load_base(recipe, "cuda:0", Divided(0))
    assert {p.device.type for p in first.loaded.model.parameters()} == {"cpu"}
    other = load_base(recipe, "cuda:1", Divided(1, first.sha256))
    assert {p.device.type for p in other.loaded.model.parameters()} == {"meta"}
    assert (other.sha256, other.reference_sha256) == (first.sha256, first.sha256)
    assert first.sha256 == weights_hash(tiny_model())
    assert other.parameters == first.parameters
    assert other.loaded.end_ids == first.loaded.end_ids


def test_an_adapter_to_go_on_from_has_a_part_in_it(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    names = {load_base(config(model), "cpu").reference_sha256}
    for seed in (1, 2):
        folder = saved_adapter(tmp_path / "adapter", seed)
        base = load_base(config(model, adapter={"path": str(folder), "rank": 4}), "cpu")
        assert base.sha256 == weights_hash(tiny_model())
        names.add(base.reference_sha256)
    assert len(names) == 3


def test_without_the_extra_it_says_so_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "bitsandbytes", missing)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", missing)
    with pytest.raises(ConfigError, match=r"palate\[quant\]"):
        load_base(config(tmp_path / "nothing", model={"quantize": "nf4"}), "cpu")


def test_the_frozen_copy_stays_while_the_policy_moves(tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path)
    model = tiny_model()
    adapted = attach(model, AdapterConfig(rank=4, path=str(folder)), 0)
    start = model(input_ids=IDS).logits
    assert not torch.allclose(start, tiny_model()(input_ids=IDS).logits, atol=1e-2)
    names = set(trainable(model))
    assert names
    assert all(".default." in name for name in names)
    with torch.no_grad():
        for weight in trainable(model).values():
            weight.add_(0.1)
    moved = model(input_ids=IDS).logits
    assert not torch.allclose(moved, start, atol=1e-2)
    with as_reference(adapted):
        assert torch.equal(model(input_ids=IDS).logits, start)
        assert set(trainable(model)) == names, "looking at the reference trains nothing else"
    assert torch.equal(model(input_ids=IDS).logits, moved)
    with pytest.raises(RuntimeError), as_reference(adapted):
        raise RuntimeError
    assert torch.equal(model(input_ids=IDS).logits, moved)


def test_the_adapters_hash_is_of_what_it_holds(tmp_path: Path) -> None:
    first = adapter_hash(str(saved_adapter(tmp_path / "a", 1)))
    assert adapter_hash(str(saved_adapter(tmp_path / "b", 1))) == first
    assert adapter_hash(str(saved_adapter(tmp_path / "c", 2))) != first
