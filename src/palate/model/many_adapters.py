"""Several LoRA adapters over one copy of a model, each row of a forward under its own.

One forward serves answers of several runs: the frozen matrices multiply all rows at once, and
each adapter adds its product to its own rows, y_i += s_k (x_i A_kᵀ) B_kᵀ for the rows i that are
answered under adapter k (as in Punica, arXiv 2310.18547, and S-LoRA, arXiv 2311.03285, without
their kernels). What is computed for a row is what peft computes for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn
from torch.nn import functional

from palate.model.foreign import in_one_line, lora_config
from palate.model.lora import plain

Groups = list[tuple[str, Tensor | None]]
"""Adapters that are in use, with the rows of each; None stands for all rows."""


class ManyAdapters:
    """Adapter 0 is the model without any; the k-th that was added is adapter k."""

    def __init__(self, model: Any, folders: Sequence[Path]) -> None:
        """Put the adapters of these folders into the model, in place.

        Raises `ValueError` for a folder that holds no LoRA adapter of this model's linear
        layers, one of the output head, or one whose product is not the plain one.
        """
        self._device = next(model.parameters()).device
        self._names = [f"adapter_{k}" for k in range(1, len(folders) + 1)]
        self._groups: Groups = []
        self._count: int | None = None
        adapted: PeftModel | None = None
        for name, folder in zip(self._names, folders, strict=True):
            adapted = _read(adapted or model, name, folder)
        head = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, LoraLayer):
                _take_over(module, self, is_head=module is head)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(False)
            if "lora_" in name:
                parameter.data = parameter.data.float()

    @contextmanager
    def rows(self, which: np.ndarray[Any, Any]) -> Iterator[None]:
        """Inside, row i of every forward is computed under adapter `which[i]`."""
        used = np.unique(which)
        if len(used) == 1:
            self._groups = [(self._names[used[0] - 1], None)] if used[0] else []
        else:
            self._groups = [
                (self._names[k - 1], torch.from_numpy(np.flatnonzero(which == k)).to(self._device))
                for k in used.tolist()
                if k
            ]
            self._count = len(which)
        try:
            yield
        finally:
            self._groups, self._count = [], None

    def forward(self, layer: Any, x: Tensor) -> Tensor:
        """A layer's own product, and what the adapters in use add to it."""
        out: Tensor = layer.base_layer(x)
        flat, inputs = out.flatten(0, -2), x.flatten(0, -2)
        for name, rows in self._groups:
            if name not in layer.lora_A:
                continue
            down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
            scale = layer.scaling[name]
            if rows is None:
                flat = torch.addmm(flat, functional.linear(inputs, down), up.t(), alpha=scale)
                continue
            assert len(inputs) == self._count, "a layer that regroups rows has no rows of answers"
            inner = functional.linear(inputs.index_select(0, rows), down)
            flat = flat.index_add(0, rows, functional.linear(inner, up).to(flat.dtype), alpha=scale)
        return flat.view(out.shape)


def _read(model: Any, name: str, folder: Path) -> PeftModel:
    saved = lora_config(folder)
    if saved.modules_to_save or saved.bias != "none":
        raise ValueError(
            f"the adapter in {folder} is more than LoRA matrices: serve its merged model instead"
        )
    with in_one_line(f"the adapter in {folder} does not fit its base model"):
        if not isinstance(model, PeftModel):
            return PeftModel.from_pretrained(model, folder, adapter_name=name, config=saved)
        saved.inference_mode = True
        model.add_adapter(name, saved)
        found = model.load_adapter(folder, name)
        missing = [*found.missing_keys, *found.unexpected_keys]
        if missing:
            raise ValueError(f"{missing[0]} has no counterpart")
        return model


def _take_over(layer: Any, adapters: ManyAdapters, *, is_head: bool) -> None:
    if is_head:  # it sees the last rows alone, and cannot know whose they are
        raise ValueError(
            "an adapter on the output head cannot be served beside others: serve the merged "
            "model, RUN/model, instead"
        )
    simple = type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear and plain(layer)
    biased = any(getattr(part, "bias", None) is not None for part in layer.lora_B.values())
    if not simple or biased:
        raise ValueError(
            f"an adapter on a {type(layer).__name__} cannot be served beside others: serve the "
            "merged model, RUN/model, instead"
        )
    layer.forward = partial(adapters.forward, layer)
