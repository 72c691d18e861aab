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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from palate.model.blocks import decoder_layers
from palate.model.policy import Policy
from palate.train.parallel import Ranks


def divide(policy: Policy, ranks: Ranks, sharing: int, device: torch.device) -> None:
    """Divide the policy's weights over each `sharing` ranks in a row, with what rank 0 holds.

    Raises `ValueError` where a rank's model has other shapes than rank 0's.
    """
    ranks.on_main(lambda: None)  # rank 0 may have loaded for longer than an exchange may take
    everything = ranks.most(any(weight.is_meta for weight in policy.parameters())) > 0
    told = ranks.on_main(lambda: [asdict(one) for one in entries(policy, everything=everything)])
    listed = [Entry.of(one) for one in told]
    check_fits(policy, listed)
    shard(policy, ranks.world, sharing, device, listed)


def shard(
    policy: Policy, world: int, sharing: int, device: torch.device, listed: Sequence[Entry]
) -> None:
    """Divide the policy's weights in place over each `sharing` ranks in a row, of `world`.

    Parameters become DTensors on the device. With fewer than all, each such group holds all
    weights, and gradients are summed within the groups and then across them. What is `listed`,
    by `entries` on rank 0, becomes rank 0's on all.
    """
    shape: tuple[int, ...] = (world,)
    names: tuple[str, ...] = ("shard",)
    if sharing < world:
        shape, names = (world // sharing, sharing), ("replicate", "shard")
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    bringing = _Bringing(policy, device, listed)
    for number, unit in enumerate(_units(policy)):
        bringing.bring(number)
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


def like(weight: Tensor, value: Tensor) -> Tensor:
    """A whole tensor that every rank holds, divided as the sharded `weight` is."""
    assert isinstance(weight, DTensor)
    whole = value.to(weight.device)
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _units(policy: Policy) -> list[nn.Module]:
    """What is divided by itself, in order; the last is the root, with all that is left.

    Raises `ValueError` for a family that keeps its layers otherwise than others.
    """
    try:
        layers = decoder_layers(policy.model)
    except ValueError as error:
        name = type(policy.model).__name__
        raise ValueError(
            f"train.parallel fsdp and hybrid do not know the layers of {name}: use ddp"
        ) from error
    return [*layers, policy]


Kind = Literal["parameter", "buffer", "attribute"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that goes from rank 0 to all: where it is, and what it is like.

    `unit` counts `_units`, `module` is a path from the policy. `tied` is the place in the list of
    an earlier parameter of the unit that is the same one.
    """

    unit: int
    module: str
    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    trained: bool = False
    tied: int | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Entry:
        """From JSON."""
        return cls(**{**raw, "shape": tuple(raw["shape"])})


def entries(policy: Policy, *, everything: bool) -> list[Entry]:
    """What the ranks get from rank 0: all that it holds, or trained weights alone."""
    found: list[Entry] = []
    paths = {id(module): path for path, module in policy.named_modules()}
    done: set[int] = set()
    for number, unit in enumerate(_units(policy)):
        seen: dict[int, int] = {}
        for module in unit.modules():
            if id(module) in done:
                continue
            done.add(id(module))
            for kind, name, value in _tensors(module):
                trained = kind == "parameter" and value.requires_grad
                if not (everything or trained):
                    continue
                dtype = str(value.dtype).removeprefix("torch.")
                here = len(found)
                first = seen.setdefault(id(value), here) if kind == "parameter" else here
                tied = first if first < here else None
                where, shape = paths[id(module)], tuple(value.shape)
                found.append(Entry(number, where, name, kind, shape, dtype, trained, tied))
    return found


def _tensors(module: nn.Module) -> Iterator[tuple[Kind, str, Tensor]]:
    """A module's own tensors.

    Attributes are what it keeps beside its buffers, such as rotary frequencies before they were
    scaled; some only after a forward pass, so that other ranks may not have them.
    """
    for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
        yield "parameter", name, weight
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        yield "buffer", name, buffer
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield "attribute", name, value


class _Bringing:
    """Brings the listed tensors to the device, with rank 0's values; tied ones are tied then."""

    def __init__(self, policy: Policy, device: torch.device, listed: Sequence[Entry]) -> None:
        self.policy, self.device, self.listed = policy, device, listed
        self.brought: dict[int, nn.Parameter] = {}

    def bring(self, unit: int) -> None:
        """Those of one unit; all ranks do so in the list's order."""
        self.brought = {}  # the unit before is divided now: nothing may keep it whole
        for number, entry in enumerate(self.listed):
            if entry.unit != unit:
                continue
            module = self.policy.get_submodule(entry.module)
            if entry.kind == "parameter":
                setattr(module, entry.name, self._parameter(number, entry, module))
            else:
                old = getattr(module, entry.name, None)
                setattr(module, entry.name, self._value(entry, old))

    def _parameter(self, number: int, entry: Entry, module: nn.Module) -> nn.Parameter:
        if entry.tied is not None:
            return self.brought[entry.tied]
        weight: nn.Parameter = getattr(module, entry.name)
        value = self._value(entry, weight.data)
        # One that is tied here, and not on rank 0, becomes one of its own.
        if weight.is_meta or any(weight is other for other in self.brought.values()):
            weight = nn.Parameter(value, requires_grad=entry.trained)
        else:
            weight.data = value
        self.brought[number] = weight
        return weight

    def _value(self, entry: Entry, old: Tensor | None) -> Tensor:
        if old is None or old.is_meta:
            dtype = getattr(torch, entry.dtype)
            here = torch.empty(entry.shape, dtype=dtype, device=self.device)
        else:
            here = old.to(self.device)
        # As bytes: not every backend knows every type.
        flat = here.contiguous().view(-1)
        dist.broadcast(flat.view(torch.uint8), 0)
        return flat.view(here.shape)


def check_fits(policy: Policy, listed: Sequence[Entry]) -> None:
    """Raise `ValueError` where this rank's model has not the shapes of rank 0's."""
    for entry in listed:
        try:
            here = getattr(policy.get_submodule(entry.module), entry.name, None)
        except AttributeError:
            here = None
        missing = here is None and entry.kind != "attribute"
        if missing or (here is not None and tuple(here.shape) != entry.shape):
            found = "nothing" if here is None else f"{tuple(here.shape)}"
            raise ValueError(
                f"the model has {found} at {entry.module}.{entry.name} on this rank, and "
                f"{entry.shape} on rank 0, which loads it: use train.parallel=ddp"
            )
