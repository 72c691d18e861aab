"""Conversations in the arena: what was said, and the duel about what comes next."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

from palate.records import Message
from palate.ui.arena.asking import Finish, Manner, whole
from palate.ui.arena.contenders import Contender
from palate.ui.arena.votes import Answer

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
MOST_TALKS = 500
"""Conversations that are kept; the one that rested longest goes first."""
MOST_OF_ONE = 50
"""Conversations of one person: whoever begins many drops their own, not what others write in."""
LONGEST = 100_000
"""Characters of a message, and of a system prompt."""
MOST_SAID = 1_000_000
"""Characters of a conversation."""


@dataclass(slots=True)
class Half:
    """One side of a duel: `finish` is None while the answer may still come."""

    contender: Contender
    text: str = ""
    finish: Finish | None = None
    why: str | None = None


@dataclass(slots=True)
class Duel:
    """Two answers to one prompt. `streaming` says that somebody listens; `choice` is the vote."""

    prompt: tuple[Message, ...]
    halves: tuple[Half, Half]
    manner: Manner
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    streaming: bool = False
    choice: str | None = None

    @property
    def over(self) -> bool:
        """Whether both answers have ended."""
        return all(half.finish is not None for half in self.halves)

    @property
    def votable(self) -> bool:
        """Whether both have ended by themselves, or at their limit, and said something."""
        return all(half.finish in {"stop", "length"} and half.text.strip() for half in self.halves)

    def answers(self) -> tuple[Answer, Answer]:
        """What is stored."""
        left, right = (
            Answer(half.contender.name, half.text, half.finish == "length") for half in self.halves
        )
        return left, right

    def to_dict(self) -> dict[str, Any]:
        """What the page shows; the names only once there is a vote."""
        halves: dict[str, Any] = {
            side: {
                "text": half.text,
                "finish": half.finish,
                "why": half.why,
                "name": half.contender.name if self.choice is not None else None,
            }
            for side, half in zip(SIDES, self.halves, strict=True)
        }
        state = {"over": self.over, "votable": self.votable, "choice": self.choice}
        return {"id": self.id, **halves, **state}


@dataclass(slots=True)
class Talk:
    """A conversation of one person: `turns` are those that are settled, `duel` is the last."""

    owner: str
    system: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    turns: list[Message] = field(default_factory=list)
    duel: Duel | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    touched: float = field(default_factory=time.monotonic)

    def asked(self, said: str) -> tuple[Message, ...]:
        """The prompt that ends with what is said now; raises `ValueError` where it is too long."""
        said = whole(said)
        if not said.strip():
            raise ValueError("write something to the models")
        if len(said) > LONGEST:
            raise ValueError(f"a message has at most {LONGEST:,} characters")
        before = [Message("system", self.system)] if self.system.strip() else []
        prompt = (*before, *self.turns, Message("user", said))
        if sum(len(turn.content) for turn in prompt) > MOST_SAID:
            raise ValueError("this conversation is too long: begin a new one")
        return prompt

    def to_dict(self) -> dict[str, Any]:
        """What the page shows."""
        asked = self.duel.prompt[-1].content if self.duel is not None else None
        return {
            "id": self.id,
            "system": self.system,
            "turns": [{"role": turn.role, "content": turn.content} for turn in self.turns],
            "asked": asked,
            "duel": self.duel.to_dict() if self.duel is not None else None,
        }


class Talks:
    """The conversations of everybody, by their id; a person sees their own only."""

    def __init__(self, most: int = MOST_TALKS, of_one: int = MOST_OF_ONE) -> None:
        self._most, self._of_one = most, of_one
        self._talks: OrderedDict[str, Talk] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, talk: Talk) -> Talk:
        """Keep it."""
        with self._lock:
            self._talks[talk.id] = talk
            own = [key for key, one in self._talks.items() if one.owner == talk.owner]
            for key in own[: -self._of_one]:
                del self._talks[key]
            while len(self._talks) > self._most:
                self._talks.popitem(last=False)
        return talk

    def find(self, key: str, person: str) -> Talk | None:
        """The person's conversation of that id, which is the latest used then."""
        with self._lock:
            talk = self._talks.get(key)
            if talk is None or talk.owner != person:
                return None
            self._talks.move_to_end(key)
            return talk


def system_of(given: object) -> str:
    """A system prompt of a form; raises `ValueError` where it is too long."""
    system = whole(given) if isinstance(given, str) else ""
    if len(system) > LONGEST:
        raise ValueError(f"a system prompt has at most {LONGEST:,} characters")
    return system
