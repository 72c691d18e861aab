"""A reference that follows the policy (tr-dpo, arXiv 2404.09656).

It is a frozen model of its own, computed at every step. Every so many steps its weights become a
mean of the policy's and its own. The mean is kept in fp32, whatever the reference computes in. Of
an adapted policy it is taken of whole matrices, base plus B·A: a mean of factors would be another
matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from palate.config import ConfigError, RunConfig
from palate.losses.method import Moving
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.train.base import load_base
from palate.train.device import equip
from palate.train.folder import Plan
from palate.train.reference import LiveReference


class MovingReference(LiveReference):
    """The reference's fp32 weights by name (`masters`), and the model that computes with them."""

    def __init__(self, config: RunConfig, policy: Policy, plan: Plan, how: Moving) -> None:
        if config.model.quantize != "none":
            raise ConfigError("a reference that moves is not kept in 4 bits: model.quantize=none")
        if config.adapter.path is not None:
            raise ConfigError(
                "a reference that moves starts from the model, not from adapter.path: merge the "
                "adapter first and give the merged folder as model.path"
            )
        if plan.divided:
            raise ConfigError("a reference that moves needs whole weights: train.parallel=ddp")
        self.policy, self.how = policy, how
        model = load_base(config, str(policy.device)).loaded.model.requires_grad_(False)
        adapted = _adapted(policy.model)
        _untie(model, adapted)
        aliases = _aliases(model)
        changing = set(adapted) or set(aliases.values())
        self.masters = {
            name: model.get_parameter(name).detach().float().clone() for name in changing
        }
        # What an adapter adds to: the policy's own copy of it may be rounded.
        self.bases = {name: self.masters[name].clone() for name in adapted}
        self.moved = False
        to_compute(model, plan.precision)
        # Kept by what each weight is after that: a tied head has a copy of its own then.
        self.aliases = {n: aliases[n] for n, _ in model.named_parameters(remove_duplicate=False)}
        copy = Policy(model, layout=plan.layout, precision=plan.precision).eval()
        equip(copy, plan, config)
        super().__init__(copy, nullcontext)

    @torch.no_grad()
    def follow(self) -> None:
        """ref ← share·θ + (1 − share)·ref."""
        for name, theta in self._weights().items():
            self.masters[name].lerp_(theta.to(self.masters[name]), self.how.share)
        self.moved = True
        self._apply()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: nothing before the first move."""
        return dict(self.masters) if self.moved else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's `state`."""
        if not state:
            return
        for name, value in state.items():
            self.masters[name].copy_(value)
        self.moved = True
        self._apply()

    def _weights(self) -> dict[str, Tensor]:
        layers = _adapted(self.policy.model)
        if not layers:
            return {n: self.policy.model.get_parameter(n).detach() for n in self.masters}
        return {
            name: self.bases[name] + layer.get_delta_weight("default").float()
            for name, layer in layers.items()
        }

    @torch.no_grad()
    def _apply(self) -> None:
        model = self.reference.model
        for name, alias in self.aliases.items():
            if alias in self.masters:
                model.get_parameter(name).copy_(self.masters[alias])


def _aliases(model: nn.Module) -> dict[str, str]:
    """Every name of every weight, and the first name of the weight that it is."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found[name] = first.setdefault(id(parameter), name)
    return found


def _untie(model: nn.Module, names: Iterable[str]) -> None:
    """Give weights that an adapter changes to one module alone a copy for that module."""
    aliases = _aliases(model)
    for name in names:
        if list(aliases.values()).count(aliases[name]) > 1:
            module = model.get_submodule(name.removesuffix(".weight"))
            module.weight = nn.Parameter(model.get_parameter(name).clone(), requires_grad=False)


def _adapted(model: nn.Module) -> dict[str, Any]:
    """Layers with an adapter, by the name that their weight has in a model without."""
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
