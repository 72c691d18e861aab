"""Speakers whose words a test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from palate.records import Message
from palate.speak.speaker import Manner, Reply


class Scripted:
    """Answers each conversation by a function of its turns; `asked` keeps what it was asked."""

    def __init__(
        self, say: Callable[[Sequence[Message], Manner], Reply | str], name: str = "scripted"
    ) -> None:
        self.say, self.name = say, name
        self.asked: list[Sequence[Message]] = []
        self.manners: list[Manner] = []

    def ask(self, conversations: Sequence[Sequence[Message]], manner: Manner) -> list[Reply]:
        out = []
        for turns in conversations:
            self.asked.append(turns)
            self.manners.append(manner)
            said = self.say(turns, manner)
            out.append(said if isinstance(said, Reply) else Reply(said))
        return out


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def killed_after(speaker: Scripted, calls: int) -> Scripted:
    """The same speaker, which dies at its call number `calls` + 1."""
    left = [calls]
    ask = speaker.ask

    def dying(conversations: Sequence[Sequence[Message]], manner: Manner) -> list[Reply]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return ask(conversations, manner)

    speaker.ask = dying  # type: ignore[method-assign]
    return speaker
