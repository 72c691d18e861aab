"""A small store with pairs and single answers, and votes given in a chosen order."""

from __future__ import annotations

from pathlib import Path

from tests.ui.conftest import fill

from palate.records import Signal
from palate.store.database import Store
from palate.store.judging import Judgement, add_judgements
from palate.store.reading import find

WORDS = {
    "A": ("vote", 0, 1, None),
    "B": ("vote", 1, 0, None),
    "=": ("tie", 0, 1, None),
    "bad": ("vote", None, None, None),
    "up": ("thumb", 0, None, True),
    "down": ("thumb", 0, None, False),
}


class World:
    """The store of `fill`; `say` adds votes, one event each, in their order."""

    def __init__(self, folder: Path) -> None:
        fill(folder / "palate.db")
        self.store = Store.open(folder / "palate.db")
        self._number = 0

    def id(self, name: str) -> str:
        """The interaction's id: of ``pair-0`` or ``single-3``."""
        return find(self.store, f"t:{name}").id

    def say(self, *said: str) -> None:
        """Each as ``NUMBER WHO WORD [SHOWN] [STRENGTH] [COMMENT …]``, shown being ab, ba or -."""
        for text in said:
            number, by, word, *rest = text.split(" ", 5)
            kind, choice, over, label = WORDS[word]
            shown = {"ab": (0, 1), "ba": (1, 0)}.get(rest[0] if rest else "", ())
            strength = float(rest[1]) if len(rest) > 1 else None
            comment = rest[2] if len(rest) > 2 else None
            signal = Signal(
                *((), kind, choice),  # type: ignore[arg-type]
                over=over,
                label=label,
                by=None if by == "?" else by,
                shown=shown,
                strength=strength,
                comment=comment,
            )
            name = f"{'single' if kind == 'thumb' else 'pair'}-{number}"
            self._number += 1
            one = Judgement(f"{self._number:032d}", self.id(name), signal)
            assert add_judgements(self.store, [one], "tests") == 1
