"""How a model's decoder layers run: compiled, and recomputed in the backward pass.

Recomputation keeps only a layer's input and computes the rest again when its gradient is needed:
the same operations on the same numbers, so the gradient has the same bits. It is decided for each
micro-batch. With `offload` the kept inputs wait in the host's memory.

The forest travels as an argument of the layer, so that a layer that is computed again sees its
own forest and not the next one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import _dynamo as dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint

from palate.tokens.tree import Forest

# Compiled variants of one layer's code: sizes of forests, with and without gradient.
_VARIANTS = 64


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers of a transformers causal LM; `ValueError` where there is no such list."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise ValueError(
        f"{type(model).__name__} has no list of {count} decoder layers: use "
        "train.checkpointing=never and train.compile=off"
    )


class Blocks:
    """Takes over the layers' forward inside `running`; leaves results and gradients as they are.

    `needs` says of a forest whether it must be recomputed to fit. Elsewhere (sampling, another
    layout) the layers run as they did before, as they also do where they are recomputed. What else
    replaces a layer's forward must have done so by now.
    """

    def __init__(
        self,
        model: Any,
        needs: Callable[[Forest], bool] = lambda forest: False,
        *,
        offload: bool = False,
    ) -> None:
        self.layers = decoder_layers(model)
        self.needs = needs
        self.offload = offload
        self.compiled = False
        self.recompute = False
        self._inside = False
        self._own = [layer.forward for layer in self.layers]
        self._fast = self._own
        for number, layer in enumerate(self.layers):
            layer.forward = functools.partial(self._run, number)

    @contextmanager
    def running(self, forest: Forest) -> Iterator[None]:
        """Around one forward pass of the layers over this forest."""
        self.recompute = torch.is_grad_enabled() and self.needs(forest)
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def compile(self, trial: Callable[[], Any]) -> str | None:
        """Compile each layer and try it; what went wrong, or None. Then layers run as before.

        A size that fails later runs uncompiled: torch says so in its log.
        """
        dynamo.config.recompile_limit = _VARIANTS
        dynamo.config.suppress_errors = False
        self._fast = [torch.compile(forward, dynamic=False) for forward in self._own]
        self.compiled = True
        try:
            trial()
        except Exception as error:  # noqa: BLE001 a compiler, its compiler, a driver: all may fail
            self.run_as_before()
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0][:200]}"
        dynamo.config.suppress_errors = True
        return None

    def run_as_before(self) -> None:
        """Uncompiled."""
        self.compiled, self._fast = False, self._own

    def remove(self) -> None:
        """Give the layers the forward back that they had."""
        for layer, own in zip(self.layers, self._own, strict=True):
            if getattr(own, "__self__", None) is layer:  # its class's, which needs no attribute
                del layer.forward
            else:
                layer.forward = own

    def _run(self, number: int, *args: Any, **kwargs: Any) -> Any:
        if not self._inside:
            return self._own[number](*args, **kwargs)
        forward = self._fast[number]
        if not (self.recompute and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        with self._kept_where():
            return checkpoint(
                forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
            )

    def _kept_where(self) -> AbstractContextManager[Any]:
        """Around a recomputed layer only its input is kept, so only that goes to the host."""
        if not self.offload:
            return nullcontext()
        pinned = next(self.layers[0].parameters()).is_cuda
        return torch.autograd.graph.save_on_cpu(pin_memory=pinned)
