"""AdamW for little memory: moments in 8 bits, weights in bf16 with stochastic rounding.

The same arithmetic as AdamW (Loshchilov and Hutter 2019), in fp32, over pieces of a weight at a
time, so that the values in between stay small. A piece's moments are decoded, moved and encoded
again; its new weights are rounded where they are kept in bf16. bitsandbytes and torchao have 8-bit
AdamWs too; what they draw for rounding comes from torch's global generator, so that a continued
run would not repeat it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from palate.train.moments import BLOCK, decode, encode
from palate.train.stochastic import round_to_bf16, rounding_generator

# Values worked on at once, a multiple of the blocks: a CPU's cache, a GPU's launches.
_PIECE = {"cpu": 2**18, "other": 2**24}
# Smaller weights keep fp32 moments, as in the paper's implementation: they cost nothing.
SMALL = 4096


class CompactAdamW(torch.optim.Optimizer):
    """Groups as of `torch.optim.AdamW`, each with `names` beside `params`.

    A weight's state: `step` (fp32, on the CPU), `exp_avg` and `exp_avg_sq` (fp32, or uint8 codes
    with `exp_avg_scale` and `exp_avg_sq_scale`, fp32, one for each block of 256).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        in_8_bits: bool,
        seed: int,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.in_8_bits, self.seed = in_8_bits, seed
        if any(hasattr(w, "device_mesh") for group in self.param_groups for w in group["params"]):
            raise ValueError(
                "optim.name=adamw8bit and train.weights=bf16 need whole weights, and these are "
                "divided over processes (FSDP2): use adamw and fp32, or one process"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        assert closure is None, "the loop computes the gradient itself"
        for group in self.param_groups:
            for name, weight in zip(group["names"], group["params"], strict=True):
                if weight.grad is not None:
                    self._update(group, name, weight)

    def _update(self, group: dict[str, Any], name: str, weight: Tensor) -> None:
        assert weight.is_contiguous(), f"{name} is laid out in pieces"
        state = self.state[weight]
        if not state:
            state.update(self._zeros(weight))
        state["step"] += 1
        step = int(state["step"])
        flat, gradient = weight.detach().view(-1), weight.grad.reshape(-1)  # type: ignore[union-attr]
        size = _PIECE["cpu" if weight.device.type == "cpu" else "other"]
        for first in range(0, flat.numel(), size):
            piece = slice(first, min(first + size, flat.numel()))
            new = _moved(group, state, piece, flat[piece].float(), gradient[piece].float(), step)
            if weight.dtype == torch.bfloat16:
                stream = rounding_generator(weight.device, self.seed, step, name, first)
                new = round_to_bf16(new, stream)
            flat[piece] = new

    def _zeros(self, weight: Tensor) -> dict[str, Tensor]:
        state = {"step": torch.zeros((), dtype=torch.float32)}
        narrow = self.in_8_bits and weight.numel() >= SMALL
        for key, signed in (("exp_avg", True), ("exp_avg_sq", False)):
            zeros = torch.zeros(weight.numel(), dtype=torch.float32, device=weight.device)
            if narrow:
                codes, scales = encode(zeros, signed=signed)
                state[key], state[f"{key}_scale"] = codes.view(weight.shape), scales
            else:
                state[key] = zeros.view(weight.shape)
        return state


def _moved(
    group: dict[str, Any],
    state: dict[str, Tensor],
    piece: slice,
    weight: Tensor,
    gradient: Tensor,
    step: int,
) -> Tensor:
    """The piece's new weights, fp32; its moments are moved in the state.

    m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²
    w ← (1 - η λ) w - η m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)
    """
    beta1, beta2 = group["betas"]
    m, v = _read(state, "exp_avg", piece), _read(state, "exp_avg_sq", piece)
    m.lerp_(gradient, 1 - beta1)
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    spread = v.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
    weight.mul_(1 - group["lr"] * group["weight_decay"])
    weight.addcdiv_(m, spread, value=-group["lr"] / (1 - beta1**step))
    _write(state, "exp_avg", piece, m)
    _write(state, "exp_avg_sq", piece, v)
    return weight


def _read(state: dict[str, Tensor], key: str, piece: slice) -> Tensor:
    """A piece of a moment in fp32, free to be changed."""
    values = state[key].view(-1)[piece]
    scales = state.get(f"{key}_scale")
    if scales is None:
        return values.clone()
    return decode(values, scales[_blocks(piece)], signed=key == "exp_avg")


def _write(state: dict[str, Tensor], key: str, piece: slice, values: Tensor) -> None:
    scales = state.get(f"{key}_scale")
    if scales is None:
        state[key].view(-1)[piece] = values
        return
    codes, found = encode(values, signed=key == "exp_avg")
    state[key].view(-1)[piece] = codes
    scales[_blocks(piece)] = found


def _blocks(piece: slice) -> slice:
    """The blocks of a piece, which begins with one."""
    assert piece.start % BLOCK == 0
    return slice(piece.start // BLOCK, -(-piece.stop // BLOCK))
