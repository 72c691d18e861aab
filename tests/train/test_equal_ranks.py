"""One step of 8 examples is the same step on 1, 2 and 4 ranks, in each manner of sharing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.ranks import uneven_pairs
from tests.train.starting import Jobs, Starter, said

from palate.tokens.divide import divide
from palate.train.checkpoint import read_tensors
from palate.train.metrics import read_metrics

METHODS = ("dpo", "kto", "aot", "grpo")
# A few logits at once, so that the head is computed in chunks; the model's head is tied.
CHUNKED = {"logits_budget": 4 * 272 * 4}
STEPS, LR = 2, 5e-3
COMMON: dict[str, Any] = {
    "count": 16,
    "batch_size": 8,
    "epochs": 1.0,
    "eval_every": 0,
    "tokens_per_microbatch": 60,
}
pytestmark = pytest.mark.slow


def jobs() -> Jobs:
    found: Jobs = []
    for method in METHODS:
        for kind in ("lora", "full"):
            settings = {**COMMON, "method": method, "kind": kind}
            found.append((f"{method}-{kind}-sgd", {**settings, "sgd": True, "gradients": True}))
            found.append((f"{method}-{kind}-adamw", settings))
    settings = {**COMMON, "method": "dpo", "kind": "full", "sgd": True, "gradients": True}
    return [*found, ("chunked", {**settings, **CHUNKED})]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> Path:
    """The same jobs in one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert starter.run(folder, 1, "auto", jobs()) == [0], said(folder, 1)
    return folder


@pytest.fixture(
    scope="module",
    params=[(2, "ddp"), (4, "ddp"), (2, "fsdp"), (4, "fsdp"), (4, "hybrid")],
    ids=lambda both: f"{both[0]}-{both[1]}",
)
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, starter: Starter
) -> Path:
    world, parallel = request.param
    folder = tmp_path_factory.mktemp(f"{parallel}-{world}-")
    # Of 4 ranks in the hybrid manner, 2 are a machine.
    codes = starter.run(
        folder, world, parallel, jobs(), machine=2 if parallel == "hybrid" else None
    )
    assert codes == [0] * world, "".join(said(folder, world))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "checkpoints" / f"step-{STEPS}", "weights")


def assert_close(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], told: object
) -> None:
    """Equal to 1e-5 of each tensor's norm."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        other = expected[name]
        assert float((tensor - other).norm()) <= 1e-5 * float(other.norm()), (told, name)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in {"seconds", "unique_tokens"}}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def test_premise_every_rank_has_work_and_not_the_same() -> None:
    """Of 8 examples on 4 ranks, as the tasks divide them."""
    parts = divide(uneven_pairs(16), range(8), 4)
    assert all(parts)
    assert len({len(part) for part in parts}) > 1


def test_gradients_and_sgd_weights(together: Path, alone: Path) -> None:
    for name, settings in jobs():
        if "sgd" not in settings:
            continue
        found, expected = (
            load_file(place / name / "gradients.safetensors") for place in (together, alone)
        )
        assert sum(float(grad.norm()) for grad in expected.values()) > 1e-3, name
        assert_close(found, expected, name)
        assert_close(weights(together / name), weights(alone / name), name)


def test_adamw_weights(together: Path, alone: Path) -> None:
    """Within 0.2·lr a step: where a gradient is near 0, its sign decides a whole step."""
    for name, settings in jobs():
        if "sgd" in settings:
            continue
        found, expected = weights(together / name), weights(alone / name)
        assert found.keys() == expected.keys()
        for key, tensor in found.items():
            assert float((tensor - expected[key]).abs().max()) <= 0.2 * LR * STEPS, (name, key)


def test_metrics(together: Path, alone: Path) -> None:
    for name, _ in jobs():
        found, expected = lines(together / name), lines(alone / name)
        assert [list(line) for line in found] == [list(line) for line in expected]
        for line, other in zip(found, expected, strict=True):
            assert line.pop("kind") == other.pop("kind")
            assert line == pytest.approx(other, rel=1e-5, abs=2e-6), name


def test_the_chunked_head_is_the_head(alone: Path) -> None:
    """Premise of `chunked`, whose head is tied to the embedding: the same gradients as whole."""
    found, expected = (
        load_file(alone / name / "gradients.safetensors") for name in ("chunked", "dpo-full-sgd")
    )
    assert_close(found, expected, "chunked")
    assert any("embed_tokens" in name for name in found)
    assert not any("lm_head" in name for name in found)


def test_ranks_say_nothing_of_it(together: Path) -> None:
    """No note, warning or second voice comes with being several."""
    for seen in together.glob("*/rank-*.json"):
        assert json.loads(seen.read_text())["notes"] == []
