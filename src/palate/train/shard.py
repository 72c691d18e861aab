"""Weights divided over ranks, by torch's own `fully_shard` (FSDP2).

Each decoder layer is a unit whose weights are gathered while it computes; the rest
(embedding, last norm, head) is the root's. Gradients are reduced after each micro-batch,
in fp32 and as a sum: the step has divided by the count of all ranks already. Autocast does
the rounding to bf16, as in one process, so that shards travel in their own precision.

The head is computed inside the policy's forward, while the root's weights are whole: they stay so
until the backward pass has used them, also where the head is the embedding's matrix.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from palate.model.policy import Policy


def shard(policy: Policy, world: int, sharing: int) -> None:
    """Divide the policy's weights in place over each `sharing` ranks in a row, of `world`.

    Parameters become DTensors. With fewer than all, each such group holds all weights, and
    gradients are summed within the groups and then across them.
    """
    shape: tuple[int, ...] = (world,)
    names: tuple[str, ...] = ("shard",)
    if sharing < world:
        shape, names = (world // sharing, sharing), ("replicate", "shard")
    mesh = init_device_mesh(policy.device.type, shape, mesh_dim_names=names)
    for layer in decoder_layers(policy):
        fully_shard(layer, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # Otherwise a factor becomes an operation that only NCCL knows.
            module.set_force_sum_reduction_for_comms(True)


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
