"""What people do not agree about: who said what, the answers, and the last word on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from palate.judge.annotators import BOTH_BAD, DOWN, FIRST, SECOND, TIE, UP
from palate.records import Signal
from palate.store.database import Store
from palate.store.reading import Stored, stored_of
from palate.ui.agreement.votes import Said, Votes

SHOWN = 10
WORDS = {"pairs": (FIRST, TIE, SECOND, BOTH_BAD), "singles": (UP, DOWN)}


def disagreements(votes: Votes) -> list[list[Said]]:
    """What was said of each item on which people differ and that is not settled.

    The most evenly divided come first, then those on which most people spoke, then the latest.
    """
    items: dict[str, dict[str, Said]] = defaultdict(dict)
    for one in (*votes.pairs, *votes.singles):
        if one.item not in votes.settled:
            items[one.item].setdefault(one.vote.by, one)
    open_ = [list(voices.values()) for voices in items.values()]
    divided = [voices for voices in open_ if len(set(_words(voices))) > 1]
    divided.sort(key=lambda voices: max((one.time or "", one.item) for one in voices), reverse=True)
    divided.sort(key=lambda voices: (_certainty(voices), -len(_words(voices))))
    return divided


def _words(voices: Sequence[Said]) -> list[str]:
    return [one.vote.word for one in voices if not one.vote.judged]


def _certainty(voices: Sequence[Said]) -> float:
    """The share of people who said what most of them said."""
    words = _words(voices)
    return max(Counter(words).values()) / len(words)


def shown_items(store: Store, divided: Sequence[Sequence[Said]]) -> list[dict[str, Any]]:
    """The items with their conversations; those that are gone by now are left out."""
    there = {one.id: one for one in stored_of(store, [voices[0].interaction for voices in divided])}
    found = []
    for voices in divided:
        stored = there.get(voices[0].interaction)
        if stored is not None and max(voices[0].places) < len(stored.example.completions):
            found.append(_item(stored, voices))
    return found


def _item(stored: Stored, voices: Sequence[Said]) -> dict[str, Any]:
    places = voices[0].places
    answers = [stored.example.completions[place] for place in places]
    return {
        "item": voices[0].item,
        "interaction": stored.id,
        "question": "singles" if len(places) == 1 else "pairs",
        "prompt": [m.to_dict() for m in stored.example.prompt],
        "answers": [[m.to_dict() for m in answer.messages] for answer in answers],
        "said": [
            {
                "by": one.vote.by,
                "judge": one.vote.judged,
                "word": one.vote.word,
                "strength": one.strength,
                "comment": one.comment,
                "time": one.time,
            }
            for one in sorted(voices, key=lambda one: (one.vote.judged, one.time or ""))
        ],
    }


def last_word(places: Sequence[int], word: str, by: str) -> Signal:
    """The signal that says `word` of the answers at these places; `ValueError` for another word."""
    if word not in WORDS["singles" if len(places) == 1 else "pairs"]:
        raise ValueError(f"'{word:.20}' is no word on such an item: reload the page")
    if len(places) == 1:
        return Signal((), "thumb", places[0], label=word == UP, by=by)
    first, second = places
    if word == BOTH_BAD:
        return Signal((), "vote", None, by=by, shown=(first, second))
    if word == TIE:
        return Signal((), "tie", first, over=second, by=by)
    better, worse = (first, second) if word == FIRST else (second, first)
    return Signal((), "vote", better, over=worse, by=by)
