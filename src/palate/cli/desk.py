"""What a talk has beside it: remarks for the store, and the base to compare with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from palate.cli.remarks import Remarks
from palate.progress import Reporter
from palate.records import Message

if TYPE_CHECKING:
    from palate.cli.talk import Talk

REMARKS = {"/good", "/bad", "/edit", "/compare", "/1", "/2"}
"""The commands that say something of the last answer."""


@dataclass(slots=True)
class Rival:
    """The base, which `/compare` asks: loaded when it is first asked."""

    name: str
    open: Callable[[], Talk]
    talk: Talk | None = None

    def answer(self, talk: Talk) -> Generator[str]:
        """Its answer to what was said last, in the same conversation."""
        self.talk = self.talk or self.open()
        self.talk.system, self.talk.turns = talk.system, list(talk.turns[:-2])
        self.talk.answers = max(0, talk.answers - 1)  # the random numbers of the answer beside it
        ids, _ = self.talk.prompt(talk.turns[-2].content)
        yield from self.talk.answer(ids)


@dataclass(slots=True)
class Desk:
    """What stands beside the talk: the store's remarks, the rival, and two answers to vote on.

    `edited` says that the last answer is the user's own: there is nothing to say of it.
    """

    remarks: Remarks
    rival: Rival | None
    duel: tuple[tuple[str, str], tuple[str, str]] | None = None
    edited: bool = False

    def begin(self) -> None:
        """A new answer comes: what was said was about others."""
        self.duel, self.edited = None, False


def remark(talk: Talk, desk: Desk, name: str, rest: str, interactive: bool, say: Reporter) -> None:
    """What is said of the last answer; what stands behind `/good` and `/bad` is a comment."""
    if len(talk.turns) < 2 or talk.turns[-1].role != "assistant" or desk.edited:
        why = "the last answer is yours" if desk.edited else "there is no answer yet"
        say.note(f"({why}: nothing to say something about)")
        return
    prompt, answer = talk.asked(), talk.turns[-1].content
    if name == "/compare":
        _compare(talk, desk, interactive, say)
    elif name in {"/1", "/2"}:
        if desk.duel is None:
            say.note("(first /compare, then /1 or /2)")
            return
        desk.remarks.vote(prompt, desk.duel, int(name[1]) - 1)
        say.note(f"(kept in {desk.remarks.place}: {desk.duel[int(name[1]) - 1][0]} is better)")
    elif name == "/edit" and not rest:
        say.note("(/edit and the answer as it should have been, in one line)")
    elif name == "/edit":
        desk.remarks.edit(prompt, answer, rest)
        talk.turns[-1] = Message("assistant", rest)
        desk.edited, desk.duel = True, None
        say.note(f"(kept in {desk.remarks.place}; the conversation goes on with your answer)")
    else:
        desk.remarks.thumb(prompt, answer, up=name == "/good", comment=rest or None)
        say.note(f"(kept in {desk.remarks.place}: a {name[1:]} answer)")


def _compare(talk: Talk, desk: Desk, interactive: bool, say: Reporter) -> None:
    """Show both answers; one that was interrupted is none to vote on."""
    if desk.rival is None:
        say.note("(a run has a base to compare with; this model has none)")
        return
    desk.duel = None
    mine = talk.turns[-1].content
    say.note(f"1, {desk.remarks.model}:\n{_printable(mine)}\n2, {desk.rival.name}:")
    try:
        whole = write_pieces(desk.rival.answer(talk), interactive, say)
    except (ValueError, OSError) as error:
        say.note(f"(the base cannot answer: {' '.join(str(error).split())})")
        return
    if not whole or desk.rival.talk is None:
        return
    theirs = desk.rival.talk.turns[-1].content
    desk.duel = ((desk.remarks.model, mine), (desk.rival.name, theirs))
    say.note("(which is better? /1 or /2)")


def _printable(text: str) -> str:
    """The text as a terminal may show it."""
    from palate.generate.stream import printable

    return printable(text)


def write_pieces(pieces: Generator[str], interactive: bool, say: Reporter) -> bool:
    """Write pieces as they come, and say whether they came to their end.

    In a terminal, Ctrl-C ends the answer and not the talk.
    """
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not interactive:
            raise
        pieces.close()
        typer.echo()
        say.note("(stopped; what was said stays in the conversation)")
        return False
    typer.echo("\n" if interactive else "")
    return True
