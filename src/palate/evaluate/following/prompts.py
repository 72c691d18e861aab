"""Prompts with their instructions, in IFEval's form: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.evaluate.following.instruction import Instruction

OURS = Path(__file__).parents[1] / "sets" / "instructions.jsonl"
"""The set that comes with Palate: 80 prompts of everyday life, short enough for small models."""


@dataclass(frozen=True)
class InstructedPrompt:
    """A prompt and what it asks of the answer's form. `key` is the file's own name for it."""

    key: str
    prompt: str
    instructions: tuple[Instruction, ...]


def read_instructions(path: str | Path = OURS) -> list[InstructedPrompt]:
    """The prompts of a file of rows `key`, `prompt`, `instruction_id_list` and `kwargs`.

    `kwargs` has one object for each instruction, in order; what is null in it is not set. Blank
    lines are no rows. Raises `ValueError`, one line that names file, line and kind, for what is
    not in this form, for a key that comes twice, and for a file without rows.
    """
    try:
        written = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from error
    rows: dict[str, InstructedPrompt] = {}
    for line, row in enumerate(written.split("\n"), 1):
        if not row.strip():
            continue
        try:
            read = _row(row)
            if read.key in rows:
                raise ValueError(f"a second row has the key '{read.key}'")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        rows[read.key] = read
    if not rows:
        raise ValueError(f"{path}: there is no prompt in it")
    return list(rows.values())


def _row(written: str) -> InstructedPrompt:
    try:
        row = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    key, prompt = _field(row, "key", str | int), _field(row, "prompt", str)
    kinds, settings = _field(row, "instruction_id_list", list), _field(row, "kwargs", list)
    if not prompt.strip():
        raise ValueError("'prompt' is blank")
    if not kinds:
        raise ValueError("'instruction_id_list' is empty")
    if len(kinds) != len(settings):
        raise ValueError(f"{len(kinds)} instructions, but {len(settings)} objects in 'kwargs'")
    asked = tuple(_instruction(kind, given) for kind, given in zip(kinds, settings, strict=True))
    return InstructedPrompt(str(key), prompt, asked)


def _field(row: dict[str, Any], name: str, form: Any) -> Any:
    if not isinstance(row.get(name), form) or isinstance(row[name], bool):
        raise ValueError(f"'{name}' is missing or of the wrong form")
    return row[name]


def _instruction(kind: object, settings: object) -> Instruction:
    try:
        if not isinstance(settings, dict | None):
            raise ValueError("its 'kwargs' are no object")
        return Instruction(str(kind), {k: v for k, v in (settings or {}).items() if v is not None})
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from error
