"""The model that ships: adapters added to the base's own fp32 weights, or the trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from palate.durable import commit_folder
from palate.model.adapters import merge_into
from palate.model.scalar import as_classifier

# Puts a whole model, with its tokenizer, into a folder.
Write = Callable[[Any, Any, Path], None]


def ship_full(model: Any, tokenizer: Any, target: Path) -> None:
    """Write a fully trained model, with its tokenizer, to `target`."""

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    commit_folder(target, fill, {"kind": "full"})


def ship_classifier(
    head: nn.Linear, end_ids: set[int], model: Any, tokenizer: Any, target: Path
) -> None:
    """Write a reward model to `target`, as `AutoModelForSequenceClassification` loads it."""
    ship_full(as_classifier(model, head, tokenizer, end_ids), tokenizer, target)


def ship_adapter(
    adapted: Any, base: Any, tokenizer: Any, target: Path, adapter: Path, write: Write = ship_full
) -> None:
    """Write the adapter to `adapter`, and base plus adapter, merged in fp32, to `target`.

    `base` is freshly loaded: the one that was trained beside holds its frozen weights in
    the compute precision.
    """

    def fill(folder: Path) -> None:
        adapted.save_pretrained(folder, selected_adapters=["default"])

    commit_folder(adapter, fill, {"kind": "adapter"})
    write(merge_into(base, adapter), tokenizer, target)
