"""What somebody says of an answer in `palate chat`, kept in the store at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.records import Completion, Example, Message, Signal

if TYPE_CHECKING:
    from palate.store.database import Store

SOURCE = "palate chat"


class Remarks:
    """Opens the store at the first remark, and tells it the answer and what was said of it.

    An answer that was remarked on before is the same interaction: of one person the last word
    counts.
    """

    def __init__(self, place: str, model: str) -> None:
        self.place, self.model = place, model
        self._store: Store | None = None
        self._ids: dict[tuple[str, ...], str] = {}

    def thumb(
        self, prompt: Sequence[Message], answer: str, *, up: bool, comment: str | None = None
    ) -> None:
        """The answer was good, or it was bad."""
        told = (Completion((Message("assistant", answer),), self.model),)
        self._keep(prompt, told, Signal((), "thumb", label=up, comment=comment))

    def edit(self, prompt: Sequence[Message], answer: str, better: str) -> None:
        """The answer as it should have been."""
        told = (Completion((Message("assistant", answer),), self.model),)
        self._keep(prompt, told, Signal((), "edit", edit=(Message("assistant", better),)))

    def vote(
        self, prompt: Sequence[Message], answers: Sequence[tuple[str, str]], better: int
    ) -> None:
        """Of two answers, (model, text) each, one is better."""
        told = tuple(Completion((Message("assistant", t),), m) for m, t in answers)
        self._keep(prompt, told, Signal((), "vote", choice=better, over=1 - better))

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()

    def _keep(
        self, prompt: Sequence[Message], answers: tuple[Completion, ...], signal: Signal
    ) -> None:
        from palate.store.remarks import keep

        example = Example(tuple(prompt), answers)
        said = (example.prompt_key, *(answer.content_key for answer in answers))
        self._ids[said] = keep(self._open(), SOURCE, example, signal, self._ids.get(said))

    def _open(self) -> Store:
        if self._store is None:
            from palate.store.database import Store

            self._store = Store.open(self.place)
        return self._store
