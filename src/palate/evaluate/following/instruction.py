"""The instructions: all kinds by name, and whether an answer follows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palate.config import nearest
from palate.evaluate.following import layout, words
from palate.evaluate.following.kind import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*words.KINDS, *layout.KINDS)}
"""Every kind under its name in IFEval."""


@dataclass(frozen=True)
class Instruction:
    """What a prompt asks: a kind, and its settings as they are written in the file.

    Raises `ValueError` for an unknown kind, for settings that are not the kind's, and where a
    library that the kind needs is not installed.
    """

    kind: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no such kind{nearest(self.kind, KINDS)}")
        kind = KINDS[self.kind]
        if kind.prepare is not None:
            kind.prepare()
        kind.read(self.settings)

    def follows(self, prompt: str, answer: str) -> bool:
        """Whether the answer to the prompt obeys; a blank answer obeys nothing.

        Lines may end in CR LF.
        """
        if not answer.strip():
            return False
        kind = KINDS[self.kind]
        settings = kind.read(self.settings)
        if kind.prompted is not None:
            settings.setdefault(kind.prompted, prompt.strip())
        return kind.follows(answer.replace("\r\n", "\n"), **settings)


def check(kind: str, settings: Mapping[str, Any], prompt: str, answer: str) -> bool:
    """Whether `answer` follows the instruction; raises `ValueError` as `Instruction` does."""
    return Instruction(kind, settings).follows(prompt, answer)


def loosened(answer: str) -> tuple[str, ...]:
    """The eight readings of an answer of which one must obey in loose scoring.

    Without its first line, its last, both or neither, each with its asterisks and without: so
    an introduction, a closing remark or emphasis does not count against the answer.
    """
    lines = answer.replace("\r\n", "\n").split("\n")
    cuts = [lines[1:], lines[:-1], lines[1:-1]]
    readings = [answer, *("\n".join(cut).strip() for cut in cuts)]
    return (*readings, *(reading.replace("*", "") for reading in readings))
