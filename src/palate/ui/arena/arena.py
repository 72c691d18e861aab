"""The arena: who stands in it, the process with their models, and the duels."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from palate.config import ConfigError
from palate.records import Message
from palate.store.database import Store
from palate.ui.arena.asking import Endpoint, Manner, Piece, ask
from palate.ui.arena.child import IDLE, Child, Serving
from palate.ui.arena.contenders import Contender, command, key_of
from palate.ui.arena.talks import SIDES, Duel, Half, Side, Talk, Talks
from palate.ui.arena.votes import CHOICES, goes_on, store_vote, tally

_BEAT = 1.0  # seconds without an event, after which an empty one finds out whether anybody listens
_CROWD = 32
"""Duels that are on their way at once."""
_LOOK = 0.1  # seconds between looks at a child that loads
Event = Mapping[str, Any]
Queue = asyncio.Queue[tuple[Side | None, Piece | str]]


class Arena:
    """Long-lived; `draw` decides which contender stands left. Safe from several threads."""

    def __init__(self, store: Store, idle: float = IDLE, draw: random.Random | None = None) -> None:
        self._store, self._idle = store, idle
        self._draw = draw or random.SystemRandom()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._order: list[Contender] = []
        self.pair: tuple[Contender, Contender] | None = None
        self.talks = Talks()
        self._open = 0

    def close(self) -> None:
        """End the process with the models."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def choose(self, first: Contender, second: Contender, *, load: bool = True) -> None:
        """Let these two stand in the arena, and `load` those that run here; else at first use.

        Raises `ConfigError` where votes could not tell them apart, or a key is missing.
        """
        if first.name == second.name:
            raise ConfigError(f"both would be called '{first.name}': choose two different models")
        for one in (first, second):
            if one.server is not None:
                key_of(one.server)
        words, order = command([first, second])
        old = None
        with self._lock:
            self.pair = (first, second)
            if not order:
                old, self._child = self._child, None
            elif self._child is None or self._child.words != tuple(words):
                old, self._child = self._child, Child(words, self._idle)
            self._order = order
            child = self._child
        if old is not None:
            old.close()
        if child is not None and load:
            child.start()

    def serving(self) -> Serving | None:
        """How the process with the models stands; None where none is needed."""
        child = self._child
        return child.look() if child is not None else None

    def start(self) -> None:
        """Start the process with the models, unless it runs."""
        if self._child is not None:
            self._child.start()

    def begin(self, talk: Talk, prompt: tuple[Message, ...], manner: Manner) -> Duel:
        """A duel about the prompt, with sides drawn anew; nothing is asked before `events`."""
        if self.pair is None:
            raise ConfigError("no models have been chosen yet: the owner does that on /arena")
        pair = list(self.pair)
        self._draw.shuffle(pair)
        with talk.lock:
            if talk.duel is not None and talk.duel.streaming:
                raise ValueError("the answers are still coming: wait for their end")
            talk.duel = Duel(prompt, (Half(pair[0]), Half(pair[1])), manner)
            return talk.duel

    async def events(self, duel: Duel) -> AsyncIterator[Event]:
        """Ask both models at once, and tell what they say.

        `left` and `right` have pieces of text, `ended` how a side ended, `state` what is waited
        for, `done` the whole duel. Whoever stops listening ends both answers.
        """
        if duel.over or duel.streaming:
            if duel.streaming:
                raise ValueError("this duel is followed in another window")
            yield {"event": "done", "data": duel.to_dict()}
            return
        if self._open >= _CROWD:
            raise ValueError("too many answers are on their way: try again in a moment")
        self._open, duel.streaming = self._open + 1, True
        queue: Queue = asyncio.Queue()
        asked = [
            asyncio.create_task(self._side(duel, side, half, queue))
            for side, half in zip(SIDES, duel.halves, strict=True)
        ]
        try:
            yield {"event": "state", "data": {"words": "asking both models"}}
            while not queue.empty() or not all(task.done() for task in asked):
                for event in await _next(queue):
                    yield event
        finally:
            for task in asked:
                task.cancel()
            self._open -= 1
            _give_up(duel)
        yield {"event": "done", "data": duel.to_dict()}

    def vote(self, talk: Talk, choice: str, by: str) -> dict[str, Any]:
        """Keep the vote on the conversation's duel; the names, the tally, and how it goes on.

        The same vote again is answered in the same way, and kept once. Raises `ValueError` where
        there is nothing to vote on, or another vote.
        """
        with talk.lock:
            duel = talk.duel
            if choice not in CHOICES:
                raise ValueError(f"a vote is one of {', '.join(CHOICES)}")
            if duel is None or not duel.votable:
                raise ValueError("there are no two whole answers to vote on yet")
            if duel.choice is not None and duel.choice != choice:
                raise ValueError("this duel has its vote: write on, or ask again")
            if duel.choice is None:
                store_vote(self._store, duel.prompt, duel.answers(), choice, by, talk.id)
                duel.choice = choice
                self._settle(talk, duel, choice)
        names = [half.contender.name for half in duel.halves]
        return {
            "names": dict(zip(SIDES, names, strict=True)),
            "goes_on": (None, *SIDES)[_place(choice)],
            "tally": tally(self._store, *sorted(names)).to_dict(),
        }

    def _settle(self, talk: Talk, duel: Duel, choice: str) -> None:
        better = goes_on(choice)
        if better is not None:
            answer = Message("assistant", duel.halves[better].text)
            talk.turns += [duel.prompt[-1], answer]

    async def _side(self, duel: Duel, side: Side, half: Half, queue: Queue) -> None:
        """Ask one contender; its last piece always comes, unless this is cancelled."""

        def tell(piece: Piece) -> None:
            half.text += piece.text
            half.finish, half.why = piece.finish, piece.why
            queue.put_nowait((side, piece))

        child = self._child if half.contender.kind != "server" else None
        with child.used() if child is not None else nullcontext():
            try:
                endpoint = await self._endpoint(half.contender, child, queue)
            except (ValueError, OSError) as error:
                tell(Piece("", "error", " ".join(str(error).split())))
                return
            await ask(endpoint, duel.prompt, duel.manner, tell)

    async def _endpoint(self, contender: Contender, child: Child | None, queue: Queue) -> Endpoint:
        """Where the contender is asked, once it is there."""
        if contender.server is not None:
            server = contender.server
            return Endpoint(server.url, server.model, key_of(server), server.extra)
        if child is None or contender not in self._order:
            raise ValueError("other models were chosen meanwhile: ask again")
        told = ""
        serving = await asyncio.to_thread(child.start)
        while serving.state == "loading":
            if serving.note and serving.note != told:
                told = serving.note
                queue.put_nowait((None, told))
            await asyncio.sleep(_LOOK)
            serving = child.look()
        if serving.state != "ready":
            raise ValueError(serving.why or "the models were unloaded: ask again")
        name = serving.names[self._order.index(contender)]
        return Endpoint(serving.url, name, serving.key, direct=True)


async def _next(queue: Queue) -> Sequence[Event]:
    """What has come by now, pieces of one side put together; an empty event after a while."""
    try:
        async with asyncio.timeout(_BEAT):
            come = [await queue.get()]
    except TimeoutError:
        return [{}]
    while not queue.empty():
        come.append(queue.get_nowait())
    texts: dict[Side, str] = {}
    after: list[Event] = []
    for side, piece in come:
        if isinstance(piece, str):
            after.append({"event": "state", "data": {"words": piece}})
        elif side is not None:
            if piece.text:
                texts[side] = texts.get(side, "") + piece.text
            if piece.finish is not None:
                how = {"side": side, "finish": piece.finish, "why": piece.why}
                after.append({"event": "ended", "data": how})
    return [*({"event": side, "data": {"text": text}} for side, text in texts.items()), *after]


def _give_up(duel: Duel) -> None:
    """What has not ended never will."""
    duel.streaming = False
    for half in duel.halves:
        if half.finish is None:
            half.finish, half.why = "error", "the answer was left before its end"


def _place(choice: str) -> int:
    better = goes_on(choice)
    return 0 if better is None else better + 1
