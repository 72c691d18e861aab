"""One request on its way through the scheduler, and each of its choices."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palate.generate.draw import Sampling
from palate.serve.text import Piece, TokenLogp, Written

ENDED, FAILED, GONE = "stop", "error", "gone"
"""Why a choice is over, beside `length`; the last two are never shown."""


NONE_YET = TokenLogp(-1, 0.0)


@dataclass(slots=True)
class Job:
    """A prompt and its choices. `ids` are shifted, see `palate.generate.plan.split_ids`.

    `pieces` is filled in the event loop. `gone` is set there too, and read by the scheduler.
    """

    ids: tuple[int, ...]
    choices: list[Choice] = field(default_factory=list)
    pieces: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    gone: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all choices so far."""
        return sum(choice.count for choice in self.choices)

    @property
    def over(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.finish is not None for choice in self.choices)


@dataclass(slots=True)
class Choice:
    """One answer: how it is drawn, and what it has said."""

    job: Job
    index: int
    sampling: Sampling
    top: int | None
    ends: frozenset[int]
    written: Written
    fresh: TokenLogp = NONE_YET
    count: int = 0
    finish: str | None = None

    def uniforms(self) -> Any:
        """The random numbers of choice k under the request's seed, as `palate chat` has them."""
        return self.sampling.uniforms(0, self.index)

    def take(self) -> Piece | None:
        """Take the token that was drawn; what there is to tell, if anything."""
        self.count += 1
        if self.fresh.token in self.ends:
            over: str | None = ENDED
            text, tokens = self.written.finish()
        else:
            text, tokens = self.written.add(self.fresh)
            full = self.count >= self.sampling.max_new_tokens
            if full:
                more, rest = self.written.finish()
                text, tokens = text + more, tokens + rest
            over = ENDED if self.written.over else "length" if full else None
        self.finish = over
        if not text and not tokens and over is None:
            return None
        return Piece(self.index, text, tokens if self.top is not None else [], over)


def open_job(
    ids: Sequence[int],
    sampling: Sampling,
    *,
    n: int,
    stops: Sequence[str],
    top: int | None,
    tokenizer: Any,
    ends: frozenset[int],
    most: int,
) -> Job:
    """A job of `n` choices of at most `most` tokens each."""
    job = Job(tuple(ids))
    limited = replace(sampling, max_new_tokens=most)
    job.choices = [
        Choice(job, index, limited, top, ends, Written(tokenizer, stops)) for index in range(n)
    ]
    return job
