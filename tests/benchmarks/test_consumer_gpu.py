"""The benchmark for a GPU runs on a CPU too, on a tiny shape: so that it is ready when one is."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from benchmarks.consumer_gpu import SHAPES, build, measure, options

from palate.model.nf4 import NF4Linear

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs palate[quant]"
)


def test_the_model_is_built_in_4_bits() -> None:
    model = build("tiny", "cpu")
    layers = [m for m in model.modules() if isinstance(m, NF4Linear)]
    assert len(layers) == 7 * SHAPES["tiny"]["num_hidden_layers"]
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


@pytest.mark.parametrize("checkpointing", [True, False])
def test_it_takes_its_steps(checkpointing: bool) -> None:
    words = ["--shape", "tiny", "--tokens", "24", "--device", "cpu", "--steps", "2"]
    args = options().parse_args([*words, *([] if checkpointing else ["--no-checkpointing"])])
    found = measure(args)
    assert found["first_loss"] == pytest.approx(math.log(2), abs=0.02)
    assert found["last_loss"] != found["first_loss"]
    assert found["seconds_a_pair"] > 0
    assert found["reference_seconds_a_pair"] > 0
    assert found["host_peak_gib"] > 0
