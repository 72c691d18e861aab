"""Opinions under a name: thumbs, scores and votes as loggers and labelling tools write them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from palate.ingest.feedback import DOWN_WORDS, UP_WORDS, agreed
from palate.ingest.messages import kind
from palate.records import Example, RecordError, Signal, Verdict

# What a name says, lower case and without punctuation, if its value is a thumb.
_THUMB_NAME = re.compile(r"feedback|thumb|upvote|^liked?$")
# Words that mean a thumb under any name; "good" or "positive" may be the value of a quality.
_ANYWHERE = re.compile(r"thumb|vote|👍|👎")


def opinion(
    name: str,
    value: object,
    about: tuple[str, ...],
    by: str | None = None,
    comment: str | None = None,
) -> Signal:
    """A named value as a thumb or a score.

    A thumb is a value under a name that says so (``user-feedback``, ``thumbs``, ``like``): a word
    of `palate.ingest.feedback`, true or false, 1, and 0 or -1 for down, since nobody writes a row
    of feedback for a thumb that was not pressed. So are ``thumbs_up`` and ``downvote`` under any
    name. Any other number is a score, true 1 and false 0. Raises `RecordError` under
    ``unread-feedback`` for the rest, which says neither good nor bad.
    """
    thumb = _thumb(value, is_thumb_name(name))
    if thumb is not None:
        return Signal(about, "thumb", label=thumb, by=by, comment=comment)
    number = as_number(value)
    if number is None:
        raise RecordError(
            "unread-feedback",
            f"'{name:.40}' is {_shown(value)}: neither a number nor up or down",
        )
    return Signal(about, "score", score=number, name=name, by=by, comment=comment)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A named result as tracers keep it: a number, a word, or both, by whom and why."""

    name: str
    score: object = None
    label: object = None
    by: object = None
    comment: object = None

    def signal(self, about: tuple[str, ...]) -> Signal:
        """What it says (see `opinion`): by its word under a thumb's name, else by its number."""
        by_word = self.score is None or (is_thumb_name(self.name) and self.label is not None)
        return opinion(
            self.name,
            self.label if by_word else self.score,
            about,
            self.by if isinstance(self.by, str) else None,
            self.comment if isinstance(self.comment, str) else None,
        )


def split_judgements(
    judgements: Iterable[Judgement], about: tuple[str, ...]
) -> tuple[list[Signal], dict[str, str]]:
    """The signals of judgements that stand beside an answer; words for a quality as tags."""
    signals: list[Signal] = []
    tags: dict[str, str] = {}
    for one in judgements:
        try:
            signals.append(one.signal(about))
        except RecordError:
            if isinstance(one.label, str) and one.label:
                tags[one.name] = one.label
    return signals, tags


def settled(example: Example, signals: Sequence[Signal]) -> list[Example | Signal]:
    """An example, and what its own row says of its answer, as signals about the row's ids.

    In a row without an id nothing would join the two, so that its answer itself takes a thumb and
    one score. Raises `RecordError` under ``no-id`` if there is more than it can take.
    """
    if all(signal.about for signal in signals):
        return [example, *signals]
    thumbs = [signal.label for signal in signals if signal.kind == "thumb"]
    scores = [signal.score for signal in signals if signal.kind == "score"]
    if len(scores) > 1 or len(thumbs) + len(scores) < len(signals) or len(example.completions) > 1:
        raise RecordError("no-id", "the row says more of its answer than one without an id can")
    (answer,) = example.completions
    label = agreed([answer.label, *thumbs])
    score = next(iter(scores), answer.score)
    return [replace(example, completions=(replace(answer, label=label, score=score),))]


def is_thumb_name(name: str) -> bool:
    """Whether a score of that name is a thumb."""
    return _THUMB_NAME.search(re.sub(r"[^a-z]+", "-", name.lower()).strip("-")) is not None


def as_number(value: object) -> float | None:
    """A finite number, also of text and of true and false; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def majority(votes: Iterable[int | None], by: str = "vote") -> Verdict:
    """Which of two answers most votes prefer: 0 or 1 a vote, None for a tie.

    The verdict's strength is the winner's share of all votes. Raises `RecordError` under ``tie``
    where none has more than the other, and ``no-feedback`` where nobody voted.
    """
    counts = Counter(votes)
    total = sum(counts.values())
    if total == 0:
        raise RecordError("no-feedback", "nobody voted")
    if counts[0] == counts[1]:
        raise RecordError("tie", f"of {total} votes as many are for one answer as for the other")
    better = 0 if counts[0] > counts[1] else 1
    return Verdict(better, 1 - better, by=by, strength=counts[better] / total)


def _thumb(value: object, expected: bool) -> bool | None:
    if isinstance(value, str):
        word = re.sub(r"(?<=[a-z])[ -](?=[a-z])", "_", value.strip().lower())
        if word in UP_WORDS | DOWN_WORDS and (expected or _ANYWHERE.search(word)):
            return word in UP_WORDS
        return None
    if expected and isinstance(value, int | float) and value in (1, 0, -1):
        return value == 1
    return None


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else kind(value)
