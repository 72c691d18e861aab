"""A reference that follows the policy: a mean of weights, and the same after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import save_tiny, tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from palate.config import ConfigError, RunConfig
from palate.losses.method import Moving
from palate.model.adapters import attach
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.run import train
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.folder import Plan
from palate.train.metrics import read_metrics
from palate.train.moving import MovingReference
from palate.train.shapes import MicroBatch
from palate.train.step import pack
from palate.train.task import Interrupted

pytestmark = pytest.mark.usefixtures("cache")

SHARE = 0.6
FAMILIES = ("llama", "qwen3")  # a tied head, and one of its own
BY_FAMILY: dict[str, list[str]] = {
    "linear": ["q_proj", "v_proj", "down_proj"],
    "head": ["q_proj", "lm_head"],
    "embedding": ["q_proj", "embed_tokens"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {family: save_tiny(home / family, family) for family in FAMILIES}


def config_of(folder: Path, **settings: Any) -> RunConfig:
    base: dict[str, Any] = {"model": str(folder), "data": "unread.jsonl", "method": "tr-dpo"}
    return RunConfig.model_validate({**base, **settings})


def plan_of(precision: str = "fp32", **more: Any) -> Plan:
    raw = {"layout": "tree", "layout_reason": "", "precision": precision, "device": "cpu"}
    return Plan.of({**raw, "threads": 1, "tokens_per_microbatch": 400, "base_sha256": "", **more})


def policy_of(folder: Path, precision: str, adapter: dict[str, Any]) -> tuple[Policy, RunConfig]:
    """A policy as training makes it, from the folder's weights."""
    config = config_of(folder, adapter=adapter)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    attach(model, config.adapter, seed=0)
    to_compute(model, precision)  # type: ignore[arg-type]
    return Policy(model, precision=precision).eval(), config  # type: ignore[arg-type]


@torch.no_grad()
def shaken(policy: Policy, seed: int) -> None:
    """What is trained, changed as if it had been."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))


def micro() -> MicroBatch:
    prompt = list(range(20, 40))
    branches = tuple(
        Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for answer in ([50, 51, 52, 53], [60, 61, 62])
    )
    one = Rendered("0", len(prompt), branches)
    return pack([one], [0], [[0]], share=True, device=torch.device("cpu"))[0]


def whole(policy: Policy, family: str) -> dict[str, Tensor]:
    """The policy's weights as those of a plain model: base plus B·A where there are adapters."""
    plain = tiny_model(family).state_dict()
    for name, module in policy.model.named_modules():
        if hasattr(module, "lora_A"):
            a, b = (
                (module.lora_A["default"].weight, module.lora_B["default"].weight)
                if "default" in module.lora_A
                else (module.lora_embedding_A["default"], module.lora_embedding_B["default"])
            )
            delta = module.scaling["default"] * (b.detach() @ a.detach())
            plain[f"{name}.weight"] = plain[f"{name}.weight"] + (
                delta if "default" in module.lora_A else delta.T
            )
    if not any("lora_" in name for name, _ in policy.model.named_parameters()):
        return {name: value.clone() for name, value in policy.model.state_dict().items()}
    return plain


def mixed(new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: SHARE * new[name] + (1 - SHARE) * old[name] for name in old}


@torch.no_grad()
def logps(weights: dict[str, Tensor], family: str, precision: str) -> Tensor:
    """Of a plain model with these weights, its head untied where they say so."""
    model = tiny_model(family)
    head, embedding = weights["lm_head.weight"], weights["model.embed_tokens.weight"]
    if not torch.equal(head, embedding):
        model.lm_head.weight = torch.nn.Parameter(head.clone())
    model.load_state_dict(weights)
    model.requires_grad_(False)
    to_compute(model, precision)  # type: ignore[arg-type]
    return Policy(model, precision=precision)(micro().forest).token_logps_N  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["full", *BY_FAMILY])
def test_it_is_the_mean_of_both_models_weights(
    folders: dict[str, Path], kind: str, family: str, precision: str
) -> None:
    """Two moves: ref ← .6 θ₁ + .4 θ₀, then ref ← .6 θ₂ + .4 ref; whole matrices, not factors."""
    adapter = {"kind": "full"} if kind == "full" else {"rank": 4, "targets": BY_FAMILY[kind]}
    policy, config = policy_of(folders[family], precision, adapter)
    moving = MovingReference(config, policy, plan_of(precision), Moving(SHARE, 1))
    start = {name: value.clone() for name, value in tiny_model(family).state_dict().items()}
    first = logps(start, family, precision)
    assert torch.equal(moving(micro()), first)
    assert moving.state() == {}
    shaken(policy, 1)
    assert torch.equal(moving(micro()), first), "it stays where it is between two moves"
    expected = start
    for seed in (2, 3):
        shaken(policy, seed)
        moving.follow()
        expected = mixed(whole(policy, family), expected)
        wanted = logps(expected, family, precision)
        tolerance = 1e-5 if precision == "fp32" else 0.02
        torch.testing.assert_close(moving(micro()), wanted, rtol=tolerance, atol=tolerance)
        assert float((wanted - first).abs().max()) > 0.05, "the move is seen"
    assert not any(p.requires_grad for p in moving.reference.parameters())


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_small_step_is_not_lost_in_bf16(folders: dict[str, Path], kind: str) -> None:
    """The mean is kept in fp32: a change of a 2⁻¹² part is below bf16's 2⁻⁸, a hundred are not."""
    policy, config = policy_of(folders["llama"], "bf16", {"kind": kind, "rank": 4})
    moving = MovingReference(config, policy, plan_of("bf16"), Moving(2**-12, 1))
    before = {name: value.clone() for name, value in moving.masters.items()}
    shaken(policy, 1)
    for _ in range(100):
        moving.follow()
    theta = whole(policy, "llama")
    share = 1 - (1 - 2**-12) ** 100
    for name, value in moving.masters.items():
        assert value.dtype == torch.float32
        expected = share * theta[name] + (1 - share) * before[name]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_state_and_restore_bit_for_bit(folders: dict[str, Path], kind: str, precision: str) -> None:
    policy, config = policy_of(folders["llama"], precision, {"kind": kind, "rank": 4})
    moving = MovingReference(config, policy, plan_of(precision), Moving(SHARE, 1))
    shaken(policy, 1)
    moving.follow()
    kept = {name: value.clone() for name, value in moving.state().items()}
    again = MovingReference(config, policy, plan_of(precision), Moving(SHARE, 1))
    again.restore({})
    assert again.state() == {}
    again.restore(kept)
    assert torch.equal(again(micro()), moving(micro()))
    shaken(policy, 2)
    for one in (moving, again):
        one.follow()
    assert torch.equal(again(micro()), moving(micro()))
    for name, value in moving.state().items():
        assert torch.equal(again.state()[name], value)


@pytest.mark.parametrize(
    ("settings", "plan", "said"),
    [
        ({"model": {"path": "x", "quantize": "nf4"}}, {}, "not kept in 4 bits.*quantize=none"),
        ({"adapter": {"path": "saved"}}, {}, "not from adapter.path: merge the adapter first"),
        ({}, {"parallel": "fsdp"}, "needs whole weights: train.parallel=ddp"),
    ],
)
def test_what_cannot_move_is_refused(
    settings: dict[str, Any], plan: dict[str, Any], said: str
) -> None:
    config = RunConfig.model_validate({"model": "x", "data": "y", "method": "tr-dpo", **settings})
    with pytest.raises(ConfigError, match=said):
        MovingReference(config, Policy(tiny_model()), plan_of(**plan), Moving(SHARE, 1))


# --- in a run ---------------------------------------------------------------------------


def recipe(folder: Path, out: Path, **settings: Any) -> RunConfig:
    """Six steps; the reference moves after the second, the fourth, and the sixth."""
    data = out / "pairs.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Yes {i}. And you?", "rejected": f"No, {i}."}
        for i in range(14)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    base: dict[str, Any] = {
        "out": str(out),
        "model": str(folder),
        "data": {"path": str(data), "heldout": 0.2},
        "method": {"name": "tr-dpo", "tau": 2},
        "adapter": {"kind": "lora", "rank": 4},
        "optim": {"lr": 5e-3},
        "train": {"batch_size": 4, "max_steps": 6, "epochs": 3, "eval_every": 2},
        "evaluate": {"samples": 0},
    }
    for key, value in settings.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) else value
    base["train"] |= {"precision": "fp32", "tokens_per_microbatch": 400}
    return RunConfig.model_validate(base)


def once_at(folder: Path, step: int) -> Callable[[], bool]:
    """Asks for a stop when metrics.jsonl has a line of that step."""

    def should_stop() -> bool:
        path = folder / "metrics.jsonl"
        lines = read_metrics(path) if path.is_file() else []
        return any(line["kind"] == "train" and line["step"] >= step for line in lines)

    return should_stop


def left(folder: Path) -> dict[str, Tensor]:
    """Everything in the last checkpoint."""
    last = folder / "checkpoints" / "step-6"
    return {
        f"{name}/{key}": value
        for name in ("weights", "optimizer", "method")
        for key, value in load_file(last / f"{name}.safetensors").items()
    }


def measured(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_interrupted_after_a_move_and_continued(
    tmp_path: Path, folders: dict[str, Path], kind: str
) -> None:
    adapter = {"kind": kind}
    unbroken = train(recipe(folders["llama"], tmp_path / "whole", adapter=adapter))
    again = recipe(folders["llama"], tmp_path / "again", adapter=adapter, resume="auto")
    for step in (1, 3):
        with pytest.raises(Interrupted):
            train(again, should_stop=once_at(again.folder, step))
        state = load_file(again.folder / "checkpoints" / f"step-{step}" / "method.safetensors")
        assert bool(state) == (step > 2), "before the first move there is nothing to keep"
        assert all(name.startswith("reference/") for name in state)
    train(again)
    found, expected = left(again.folder), left(unbroken.folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert measured(again.folder) == measured(unbroken.folder)
    still = recipe(folders["llama"], tmp_path / "dpo", adapter=adapter, method={"tau": 100})
    losses = [
        [line["loss"] for line in measured(one) if line["kind"] == "train"]
        for one in (unbroken.folder, train(still).folder)
    ]
    assert losses[0][:2] == losses[1][:2]
    assert all(a != b for a, b in zip(losses[0][2:], losses[1][2:], strict=True))


def test_a_cached_reference_is_refused_before_anything_is_trained(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    config = recipe(folders["llama"], tmp_path, train={"reference": "cached"})
    with pytest.raises(ConfigError, match=r"tr-dpo cannot .*cached reference.*its reference moves"):
        train(config)
    assert not (config.folder / "metrics.jsonl").is_file()
