"""Verdicts that contradict each other: the same two answers to a prompt, ranked both ways.

What a person did with the two in mind outweighs what was inferred: a vote, an edit or a file's
verdict before thumbs, thumbs before a regeneration, that before a judge's word, and that before a
score. Of verdicts of equal weight the majority counts; as many on each side cancel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from palate.curate.rejects import OnReject, reject
from palate.records import JUDGE, Example

WEIGHTS = {"thumbs": 3, "regeneration": 2, "score": 0}
_JUDGED, _EXPLICIT = 1, 4


def resolve_conflicts(examples: Sequence[Example], on_reject: OnReject) -> list[Example]:
    """The examples without those that lose, in their order.

    Rejects: ``overruled`` for a verdict against a weightier one or the majority, and
    ``contradictory`` for both sides where they weigh the same.
    """
    sides: dict[tuple[str, str, str], list[Example]] = defaultdict(list)
    keys: list[tuple[str, str, str] | None] = []
    for example in examples:
        key = None
        if example.verdict is not None:
            key = example.prompt_key, example.chosen.content_key, example.rejected.content_key
            sides[key].append(example)
        keys.append(key)
    out: list[Example] = []
    for key, example in zip(keys, examples, strict=True):
        against = sides.get((key[0], key[2], key[1]), []) if key else []
        if not against or key is None or key[1] == key[2]:
            out.append(example)
            continue
        ours, theirs = _weight(sides[key]), _weight(against)
        if ours > theirs:
            out.append(example)
        elif ours < theirs:
            by = max((e.verdict.by for e in against if e.verdict), key=_rank)
            on_reject(reject(example, "overruled", f"a {by} says the opposite, and weighs more"))
        else:
            detail = "another row ranks the same two answers the other way round"
            on_reject(reject(example, "contradictory", detail))
    return out


def _rank(by: str) -> int:
    return _JUDGED if by.startswith(JUDGE) else WEIGHTS.get(by, _EXPLICIT)


def _weight(examples: Sequence[Example]) -> tuple[int, int]:
    """(the weightiest kind of verdict, how many there are of it)."""
    ranks = [_rank(example.verdict.by) for example in examples if example.verdict]
    return max(ranks), ranks.count(max(ranks))
