"""What is opened is frozen, checked before it is cast, and where it was asked to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import save_tiny

from palate.model import place as placing
from palate.model.frozen import open_frozen


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


def test_nothing_of_it_would_be_trained(place: str) -> None:
    opened = open_frozen(place, "cpu")
    assert not any(p.requires_grad for p in opened.policy.parameters())
    assert not opened.policy.training
    assert (opened.device, opened.policy.layout, opened.beside) == ("cpu", "plain", None)


@pytest.mark.parametrize("fast_bf16", [False, True])
def test_the_probe_finds_that_the_tree_is_right(
    place: str, fast_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 too: it is the fp32 weights that the probe looks at."""
    monkeypatch.setattr(placing, "fast_bf16", lambda: fast_bf16)
    opened = open_frozen(place, "cpu", probed=True)
    assert opened.precision == ("bf16" if fast_bf16 else "fp32")
    assert opened.policy.precision == opened.precision
    assert opened.policy.layout == "tree"


def test_a_check_sees_the_weights_in_fp32_and_can_refuse(place: str) -> None:
    seen: list[torch.dtype] = []

    def check(model: Any) -> None:
        seen.extend({p.dtype for p in model.parameters()})
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        open_frozen(place, "cpu", check=check)
    assert seen == [torch.float32]


def test_a_device_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device 'abacus'"):
        open_frozen(str(tmp_path / "nowhere"), "abacus")
