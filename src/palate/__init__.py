"""Palate: from a product's conversations to preferences, and from preferences to a better model.

`palate.train(RunConfig(...))` is the whole of `palate train`. Names are resolved
on first use, so that `import palate` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palate.config import RunConfig, load_config
    from palate.records import Completion, Example, Message
    from palate.run import Run, train

_HOMES = {
    "RunConfig": "palate.config",
    "load_config": "palate.config",
    "Completion": "palate.records",
    "Example": "palate.records",
    "Message": "palate.records",
    "Run": "palate.run",
}

__all__ = ["Completion", "Example", "Message", "Run", "RunConfig", "load_config", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":  # a room that can be called: see palate/train/__init__.py
        return import_module("palate.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'palate' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
