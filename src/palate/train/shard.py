"""Weights divided over ranks, by torch's own `fully_shard` (FSDP2).

Each decoder layer is a unit whose weights are gathered while it computes; the rest
(embedding, last norm, head) is the root's. Gradients are reduced after each micro-batch,
in fp32 and as a sum: the step has divided by the count of all ranks already. Autocast does
the rounding to bf16, as in one process, so that shards travel in their own precision.

The head is computed inside the policy's forward, while the root's weights are whole: they stay so
until the backward pass has used them, also where the head is the embedding's matrix.

Rank 0 alone need hold the weights, in its host's memory: they go to the others unit by unit, and a
rank's device never holds more than its shards and one whole unit.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from palate.model.policy import Policy


def shard(policy: Policy, world: int, sharing: int, device: torch.device) -> None:
    """Divide the policy's weights in place over each `sharing` ranks in a row, of `world`.

    Parameters become DTensors on the device. With fewer than all, each such group holds all
    weights, and gradients are summed within the groups and then across them. Trained weights are
    rank 0's on all; if some rank knows no more than their shapes, so is everything.
    """
    shape: tuple[int, ...] = (world,)
    names: tuple[str, ...] = ("shard",)
    if sharing < world:
        shape, names = (world // sharing, sharing), ("replicate", "shard")
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    everything = _somebody_lacks_weights(policy)
    for unit in [*decoder_layers(policy), policy]:
        _Bringing(device, everything=everything).bring(unit)
        fully_shard(unit, mesh=mesh)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # Otherwise a factor becomes an operation that only NCCL knows.
            module.set_force_sum_reduction_for_comms(True)


def is_sharded(policy: Policy) -> bool:
    """Whether `shard` has divided it."""
    return isinstance(policy, FSDPModule)


def give_up_gathered(policy: Policy) -> None:
    """Free what a forward pass without a backward one leaves whole: the root's weights."""
    if isinstance(policy, FSDPModule):
        policy.reshard()


def decoder_layers(policy: Policy) -> nn.ModuleList:
    """The model's blocks; raises `ValueError` for a family that keeps them otherwise."""
    layers = policy.model.config.get_text_config().num_hidden_layers
    for module in policy.model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return module
    name = type(policy.model).__name__
    raise ValueError(f"train.parallel fsdp and hybrid do not know the layers of {name}: use ddp")


def like(weight: Tensor, value: Tensor) -> Tensor:
    """A whole tensor that every rank holds, divided as the sharded `weight` is."""
    assert isinstance(weight, DTensor)
    whole = value.to(weight.device)
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _somebody_lacks_weights(policy: Policy) -> bool:
    lacks = torch.tensor([int(any(p.is_meta for p in policy.parameters()))])
    dist.all_reduce(lacks, dist.ReduceOp.MAX)
    return bool(lacks)


class _Bringing:
    """Brings a unit's tensors to the device, with rank 0's values; tied ones stay tied.

    All ranks reach each tensor in the same order: modules in theirs, and names in each.
    """

    def __init__(self, device: torch.device, *, everything: bool) -> None:
        self.device, self.everything = device, everything
        self.brought: list[tuple[nn.Parameter, nn.Parameter]] = []  # what was, and what is

    def bring(self, unit: nn.Module) -> None:
        """What no unit inside has taken already."""
        for module in unit.modules():
            for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
                if not isinstance(weight, DTensor):
                    setattr(module, name, self._parameter(weight))
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
                setattr(module, name, self._tensor(buffer, wanted=self.everything))
            # What a module keeps beside its buffers, such as the rotary frequencies before scaling.
            for name, value in sorted(vars(module).items()):
                if isinstance(value, Tensor) and self.everything:
                    setattr(module, name, self._tensor(value, wanted=True))

    def _parameter(self, weight: nn.Parameter) -> nn.Parameter:
        found = next((now for was, now in self.brought if weight is was or weight is now), None)
        if found is None:
            value = self._tensor(weight.data, wanted=self.everything or weight.requires_grad)
            if weight.is_meta:
                found = nn.Parameter(value, requires_grad=weight.requires_grad)
            else:
                found, weight.data = weight, value
            self.brought.append((weight, found))
        return found

    def _tensor(self, value: Tensor, *, wanted: bool) -> Tensor:
        if value.is_meta:
            here = torch.empty(value.shape, dtype=value.dtype, device=self.device)
        else:
            here = value.to(self.device)
        if wanted:
            # As bytes: not every backend knows every type.
            flat = here.contiguous().view(-1)
            dist.broadcast(flat.view(torch.uint8), 0)
            here = flat.view(value.shape)
        return here
