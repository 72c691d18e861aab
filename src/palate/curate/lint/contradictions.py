"""The same two answers ranked both ways, or the same answer judged both ways."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from palate.curate.clusters import find_clusters
from palate.curate.lint.findings import SHOWN, Finding, Number, percent
from palate.curate.lint.shares import wilson
from palate.curate.lint.text import count_words, key
from palate.curate.lint.view import View
from palate.records import Example

CHECK = "contradictions"
# Contradictions show only where something was judged twice, so one in a hundred stands for many.
ABOVE = 0.01
# Four in five of their runs of three words in common: in 30 words, one was changed.
NEAR_ANSWERS = 0.8

_NUMBERS = re.compile(r"[0-9]{1,18}")

_Key = tuple[int, ...]


def check(view: View) -> Iterator[Number | Finding]:
    """The share of judgements that another one contradicts.

    Prompts count as the same if their words are, answers if four fifths of their runs of three
    words are, and all of their numbers: with another number it may well be another answer.
    Rows that were dropped for it (``contradictory``, ``overruled``) count too. Where judgements
    were repeated, a rate η of wrong labels makes two of them disagree with probability
    d = 2η(1 − η), which gives η = (1 − √(1 − 2d)) / 2: too low if the repetitions are copies.
    """
    if view.shape not in {"pair", "labelled"}:
        return
    against, again = _said(view)
    contrary, overruled, copies = _dropped(view)
    dropped = contrary + overruled
    judged = len(view.examples) + dropped
    if not judged:
        return
    value = (len(against) + dropped) / judged
    number = Number(
        CHECK, "judgements that another one contradicts", value, *wilson(value, judged), judged
    )
    yield number
    if number.low <= ABOVE:
        return
    disagree = (len(against) + contrary) / 2 + overruled
    agree = again + copies
    rate = _noise(disagree / (disagree + agree))
    yield Finding(
        CHECK,
        "warning",
        number,
        f"{len(against) + dropped} of {judged} judgements ({number.said}) say the opposite of "
        f"another one about the same answers"
        + (f"; {dropped} of them are left out already" if dropped else "")
        + f". Of what was judged more than once, that speaks for about {percent(rate)} wrong "
        "labels.",
        "Decide whose word counts (one judge, or the majority), and drop the rest. If the labels "
        "stay noisy, train with method=robust-dpo and that share as method.epsilon, or cdpo.",
        view.ids(against[:SHOWN]),
    )


def _dropped(view: View) -> list[int]:
    """How many rows were dropped before: contradictory, overruled and copies.

    Of more examples than are read, the share that goes with those that are.
    """
    read = len(view.examples) / view.given if view.given else 1.0
    reasons = ("contradictory", "overruled", "duplicate")
    return [round(read * view.rejected.get(reason, 0)) for reason in reasons]


def _said(view: View) -> tuple[list[int], int]:
    """Examples that contradict another one, and how many repeat another one."""
    said: dict[_Key, dict[_Key, list[int]]] = defaultdict(lambda: defaultdict(list))
    texts = _repeated(view)
    for example, (judged, verdict) in texts.items():
        said[judged][verdict].append(example)
    against: list[int] = []
    again = 0
    for verdicts in said.values():
        if len(verdicts) > 1:
            against += [example for found in verdicts.values() for example in found]
        again += sum(len(found) - 1 for found in verdicts.values())
    return sorted(against), again


def _repeated(view: View) -> dict[int, tuple[_Key, _Key]]:
    """(what was judged, how) of each example whose prompt other examples share."""
    prompts: dict[bytes, int] = {}
    keys = [prompts.setdefault(key(_whole(e)), len(prompts)) for e in view.examples]
    counts = Counter(keys)
    asked = [
        at
        for at, answer in enumerate(view.answers)
        if answer.rank and counts[keys[answer.example]] > 1
    ]
    ranks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    alike = _alike([view.answers[at].text for at in asked])
    for at, number in zip(asked, alike, strict=True):
        ranks[view.answers[at].example].append((number, view.answers[at].rank))
    found: dict[int, tuple[_Key, _Key]] = {}
    for example, sides in ranks.items():
        answers = sorted(answer for answer, _ in sides)
        if len(sides) == 1 or len(set(answers)) == 2:
            verdict = tuple(rank for _, rank in sorted(sides))
            found[example] = (keys[example], *answers), verdict
    return found


def _alike(texts: list[str]) -> list[int]:
    """A number for each text: equal for those nearly the same, with the same numbers in them."""
    near = find_clusters(((text,) for text in texts), NEAR_ANSWERS).tolist()
    known: dict[bytes | tuple[int, ...], int] = {}
    found = []
    for cluster, text in zip(near, texts, strict=True):
        # To a text without words nothing is near, but it may have copies.
        same = (cluster, *map(int, _NUMBERS.findall(text))) if count_words(text) else key(text)
        found.append(known.setdefault(same, len(known)))
    return found


def _whole(example: Example) -> str:
    return "\n".join(f"{message.role} {message.content}" for message in example.prompt)


def _noise(disagree: float) -> float:
    return 0.5 if disagree >= 0.5 else (1 - (1 - 2 * disagree) ** 0.5) / 2
