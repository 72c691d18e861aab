"""What training makes of one interaction: pairs, thumbs, demonstrations, and what is left out.

It is what `curate.prepare` makes of this one alone, as it does of the whole store. With the whole
store at hand an answer may also meet an answer to the same prompt of another conversation.
"""

from __future__ import annotations

from typing import Any, get_args

from palate.config import DataConfig
from palate.curate.prepare import Wanted, prepare
from palate.curate.signals import Judged
from palate.ingest import IngestError
from palate.records import Example, Reject

SHAPES: tuple[Wanted, ...] = ("pair", "labelled", "demonstration")
WORDS = {
    "pair": "pairs, for methods that compare two answers",
    "labelled": "thumbs, for methods that learn from single answers",
    "demonstration": "demonstrations, for supervised fine-tuning",
}
assert set(SHAPES) <= set(get_args(Wanted))


def made_of(judged: Judged) -> list[dict[str, Any]]:
    """For each shape that a method may want: the examples, and why others are none; JSON-ready."""
    return [_made(judged, shape) for shape in SHAPES]


def _made(judged: Judged, shape: Wanted) -> dict[str, Any]:
    config = DataConfig(path="the store", heldout=0)
    rejects: tuple[Reject, ...]
    problem = ""
    try:
        found = prepare(config, 0, shape=shape, read=lambda _config, _reject: [judged])
        examples, rejects = found.train, tuple(found.rejects)
    except IngestError as error:
        examples, rejects = [], tuple(error.rejects)
        problem = "" if rejects else str(error)
    return {
        "shape": shape,
        "words": WORDS[shape],
        "examples": [_told(example) for example in examples],
        "left_out": [{"reason": one.reason, "detail": one.detail} for one in rejects],
        "problem": problem,
    }


def _told(example: Example) -> dict[str, Any]:
    """Its id, and in words what is better than what, or good or bad."""
    facts: dict[str, Any] = {"id": example.id, "by": None, "strength": None, "label": None}
    if example.verdict is not None:
        facts |= {"by": example.verdict.by, "strength": example.verdict.strength}
        facts |= {"chosen": example.chosen.text, "rejected": example.rejected.text}
        return facts
    return facts | {"label": example.completions[0].label, "answer": example.completions[0].text}
