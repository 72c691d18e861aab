"""Devices and precisions."""

from __future__ import annotations

import pytest
import torch

from palate.config import ConfigError
from palate.model import place
from palate.model.place import pick_device, pick_precision


@pytest.mark.parametrize(
    ("wanted", "device", "fast", "expected"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda", False, "bf16"),
        ("auto", "mps", True, "fp32"),
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, fast: bool, expected: str
) -> None:
    monkeypatch.setattr(place, "fast_bf16", lambda: fast)
    assert pick_precision(wanted, device) == expected


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    assert pick_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="use cpu or auto"):
        pick_device("cuda")
    with pytest.raises(ConfigError, match="not one of"):
        pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(d) for d in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    for wrong in ("cuda:2", "cuda:x", "cuda:"):
        with pytest.raises(ConfigError, match="there is only cuda:0, cuda:1"):
            pick_device(wrong)
