"""What a device lets a run do, decided from the recipe, the device and the memory that is free."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.model.kernel_doubles import random_forest, use_doubles
from tests.tiny import tiny_model

from palate.config import AdapterConfig, ConfigError, RunConfig, build_config
from palate.model.cost import Work, anatomy_of, work_of
from palate.model.head import LOGITS_BUDGET
from palate.model.kernels import KERNELS, Choice
from palate.model.memory import activations
from palate.model.policy import Policy
from palate.model.scalar import add_scalar_head
from palate.model.sharding import division, rank_memory
from palate.progress import Quiet
from palate.train import device as devices
from palate.train.device import equip, free_bytes, plan_device
from palate.train.folder import Plan

PLAN = Plan("tree", "proved", "fp32", "cpu", 1, 4096, "0" * 64)


class Notes(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def recipe(**train: Any) -> RunConfig:
    return build_config({"model": "m", "data": "d", "train": train})


def planned(plan: Plan = PLAN, say: Notes | None = None, **train: Any) -> Plan:
    return plan_device(Policy(tiny_model()), plan, recipe(**train).train, say or Notes())


def equipped(plan: Plan = PLAN, say: Notes | None = None, **train: Any) -> Policy:
    policy = Policy(tiny_model())
    equip(policy, plan, recipe(**train), say)
    return policy


def test_on_a_cpu_all_stays_as_it_was() -> None:
    plan = planned()
    assert plan == PLAN
    assert (plan.attention, plan.compiled, plan.logits_budget) == ("tiled", False, LOGITS_BUDGET)


def test_divided_layers_round_their_weights_at_use() -> None:
    """What is not divided keeps torch's own linear layers, or the short forward."""
    for parallel, own in (("none", False), ("ddp", False), ("fsdp", True)):
        policy = equipped(replace(PLAN, parallel=parallel, precision="bf16"))
        layer = policy.model.get_decoder().layers[0].mlp.down_proj
        assert ("forward" in vars(layer)) is own, parallel


def test_what_was_chosen_is_in_the_plan_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    warned = Choice("tiled", "2 ms", warning="falls back to tiled (flex: off)")
    monkeypatch.setattr(devices, "choose", lambda *_: warned)
    say = Notes()
    planned(say=say)
    assert say.said == ["WARNING: falls back to tiled (flex: off)"]
    monkeypatch.setattr(devices, "choose", lambda *_: Choice("flex", "1 ms"))
    assert planned().attention == "flex"
    assert planned(replace(PLAN, layout="plain")).attention == "tiled"


def test_compiling_is_for_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(compile="on").compiled
    assert not planned(compile="off").compiled
    plain = replace(PLAN, layout="plain")
    assert not planned(plain).compiled
    with pytest.raises(ConfigError, match="for the tree layout"):
        planned(plain, compile="on")


@pytest.mark.parametrize("name", ["varlen", "flex"])
def test_a_gpus_kernel_on_a_cpu_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs a CUDA device, and this is cpu: use auto"):
        planned(attention=name)
    with pytest.raises(ConfigError, match="for the tree layout"):
        planned(replace(PLAN, layout="plain"), attention=name)
    assert planned(attention="tiled").attention == "tiled"


def test_the_plans_kernel_is_the_policys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_doubles(monkeypatch)
    policy = equipped(replace(PLAN, attention="flex", logits_budget=77))
    assert policy.kernel is KERNELS["flex"]
    assert policy.logits_budget == 77
    own = Policy(tiny_model())(random_forest(1)).token_logps_N
    assert torch.allclose(policy(random_forest(1)).token_logps_N, own, atol=1e-5)


@pytest.mark.parametrize(("wanted", "expected"), [("always", True), ("never", None)])
def test_recomputation_as_the_recipe_says(wanted: str, expected: bool | None) -> None:
    blocks = equipped(checkpointing=wanted).blocks
    assert (blocks.needs(random_forest(0)) if blocks else None) is expected


def test_auto_recomputes_exactly_the_forests_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = random_forest(0), random_forest(1, longest=60)
    anatomy = anatomy_of(tiny_model().config)
    needed = [
        activations(anatomy, work_of(forest), "fp32", lora=False) for forest in (small, large)
    ]
    assert needed[0] < needed[1]
    trained = sum(p.numel() for p in tiny_model().parameters())
    room = (needed[0] + needed[1]) / 2
    free = (room + 12 * trained + 3 * LOGITS_BUDGET) / 0.8
    monkeypatch.setattr(devices, "free_bytes", lambda _: free)
    blocks = equipped().blocks
    assert blocks is not None
    assert not blocks.needs(small)
    assert blocks.needs(large)


def test_auto_counts_what_a_rank_trains_of_divided_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 64 ranks one trains hardly anything; its weights are on the device by now."""
    forest = random_forest(0)
    anatomy = anatomy_of(tiny_model().config)
    needed = activations(anatomy, work_of(forest), "fp32", lora=True)
    rank = rank_memory(anatomy, Work(), AdapterConfig(), "fp32", division("fsdp", 64, 64))
    taken = rank.gradients + rank.moments + rank.comes_and_goes + 3 * LOGITS_BUDGET
    enough = (needed + taken) / 0.8
    plan = replace(PLAN, parallel="fsdp", ranks=64)
    for more, again in ((-1000.0, True), (1000.0, False)):
        monkeypatch.setattr(devices, "free_bytes", lambda _, free=enough + more: free)
        blocks = equipped(plan).blocks
        assert blocks is not None
        assert blocks.needs(forest) is again


@pytest.mark.parametrize("scalar", [False, True])
def test_the_trial_goes_through_every_layer_and_back(scalar: bool) -> None:
    """Of a reward model through its head: its log-probs are zeros without a gradient."""
    policy = Policy(tiny_model())
    if scalar:
        add_scalar_head(policy)
    seen: set[str] = set()
    for name, weight in policy.named_parameters():
        weight.register_hook(lambda _, name=name: seen.add(name))
    devices._trial(policy)
    assert len([name for name in seen if "layers" in name]) > 10
    assert all(weight.grad is None for weight in policy.parameters())


def test_offloading_without_recomputation_moves_nothing_and_is_refused() -> None:
    assert equipped(checkpointing="always", offload_activations=True).blocks.offload  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="moves what recomputation keeps"):
        equipped(checkpointing="never", offload_activations=True)


def test_a_model_whose_layers_are_not_found() -> None:
    """`auto` does without; what the recipe asks for by name is refused with the reason."""

    def lost(**train: Any) -> Policy:
        policy = Policy(tiny_model())
        policy.model.config.num_hidden_layers = 7
        equip(policy, PLAN, recipe(**train))
        return policy

    assert lost().blocks is None
    with pytest.raises(ConfigError, match=r"no list of 7 decoder layers: use train\.checkpoint"):
        lost(checkpointing="always")


def test_compiling_that_fails_is_said_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda forward, **_: broken)
    say = Notes()
    policy = equipped(replace(PLAN, compiled=True), say)
    assert say.said == [
        "WARNING: layers run uncompiled, slower and as exact: RuntimeError: no compiler"
    ]
    policy(random_forest(0))
    assert all(p.grad is None for p in policy.parameters())


def test_free_memory_is_known_of_a_cpu() -> None:
    assert 0 < free_bytes(torch.device("cpu")) < 2**50
    assert free_bytes(torch.device("meta")) == float("inf")
