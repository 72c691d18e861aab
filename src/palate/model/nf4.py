"""A frozen base in 4 bits a weight: NF4 with double quantisation (QLoRA).

Dettmers et al. 2023, arXiv 2305.14314. The weights of a layer are cut into blocks of 64; each is
divided by its largest magnitude and every value replaced by the nearest of 16 levels. The
magnitudes, less their mean, are themselves kept in 8 bits, in blocks of 256: 0.516 bytes a weight
in all. A layer multiplies with the weights that the codes stand for, in the precision of the
forward; they are written out anew by every forward and every backward, and kept by neither.

The codes and the kernels that read them are bitsandbytes', which has them for CUDA and for the
CPU. Its own layer is not used: in evaluation mode on a CPU it repacks its weights on the first
forward without gradient, and from then on no gradient reaches its input.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.config import ConfigError

BLOCK, SCALE_BLOCK = 64, 256
# Bytes a weight: its code, its block's scale, and that scale's own.
BYTES_A_WEIGHT = 1 / 2 + 1 / BLOCK + 4 / (BLOCK * SCALE_BLOCK)


class NF4Linear(nn.Linear):
    """y = x Wᵀ + b with W frozen in 4 bits; made from a linear layer of any floating type.

    `weight` holds the codes, two a byte [out · in / 2, 1]; `scales`, `scale_levels` and
    `scale_blocks` the blocks' magnitudes, less `offset`, in 8 bits.
    """

    def __init__(self, linear: nn.Linear, device: torch.device | str) -> None:
        nn.Module.__init__(self)  # nn.Linear would allocate the weight
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, state = _kernels().quantize_4bit(
            linear.weight.detach().to(device, torch.float32),
            blocksize=BLOCK,
            compress_statistics=True,
            quant_type="nf4",
        )
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.scales: Tensor
        self.scale_levels: Tensor
        self.scale_blocks: Tensor
        self.offset: Tensor
        self.register_buffer("scales", state.absmax)
        self.register_buffer("scale_levels", state.state2.code.clone())
        self.register_buffer("scale_blocks", state.state2.absmax)
        self.register_buffer("offset", state.offset)
        bias: nn.Parameter | None = getattr(linear, "bias", None)
        if bias is not None:
            bias = nn.Parameter(bias.detach().to(device, torch.float32), requires_grad=False)
        self.register_parameter("bias", bias)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weights that the codes stand for, [out, in]."""
        kernels = _kernels()
        blocks = kernels.QuantState(
            absmax=self.scale_blocks,
            code=self.scale_levels,
            blocksize=SCALE_BLOCK,
            dtype=self.offset.dtype,
        )
        state = kernels.QuantState(
            absmax=self.scales,
            shape=torch.Size((self.out_features, self.in_features)),
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=dtype,
            offset=self.offset,
            state2=blocks,
        )
        weight: Tensor = kernels.dequantize_4bit(self.weight, state)
        return weight

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 the name of nn.Linear's argument
        """[…, in] to […, out], in autocast's precision where it is on, else in the input's."""
        kind = input.device.type
        on = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if on else input.dtype
        out: Tensor = _Product.apply(input, self, dtype)  # type: ignore[no-untyped-call]
        bias: Tensor | None = getattr(self, "bias", None)
        return out if bias is None else out + bias.to(dtype)


class _Product(torch.autograd.Function):
    """x Wᵀ, whose backward writes W out again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear, dtype: torch.dtype) -> Tensor:
        ctx.layer, ctx.dtype, ctx.input_dtype = layer, dtype, x.dtype
        return functional.linear(x.to(dtype), layer.dequantised(dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.layer.dequantised(ctx.dtype)
        return (gradient.to(ctx.dtype) @ weight).to(ctx.input_dtype), None, None


def to_nf4(model: Any, device: torch.device | str) -> int:
    """Replace the body's linear layers by 4-bit ones on `device`; returns how many weights.

    The head and the embeddings keep their precision. One layer is on the device in full at a
    time. Raises `ConfigError` where bitsandbytes is missing, or there is nothing to quantise.
    """
    require_nf4()
    head = model.get_output_embeddings()
    linear = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not head
    }
    if not linear:
        raise ConfigError(
            f"model.quantize: {type(model).__name__} has no plain linear layers to keep in 4 bits: "
            "use model.quantize=none"
        )
    count = 0
    for name in list(linear):
        layer = linear.pop(name)  # and with it the last reference, once it is replaced
        count += layer.weight.numel()
        model.set_submodule(name, NF4Linear(layer, device))
    return count


def require_nf4() -> None:
    """Raise `ConfigError`, which says what to install, where bitsandbytes is missing."""
    _kernels()


def describe_nf4() -> str:
    """What the bits of a quantised model depend on, beside its weights."""
    version = importlib.metadata.version("bitsandbytes")
    return f"nf4, blocks of {BLOCK} and {SCALE_BLOCK}, bitsandbytes {version}"


def _kernels() -> Any:
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise ConfigError(
            "model.quantize=nf4 needs bitsandbytes, which is not installed: "
            "pip install 'palate[quant]', or use model.quantize=none"
        ) from error
    return bitsandbytes.functional
