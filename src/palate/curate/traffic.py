"""Preferences that the traffic itself shows: answers that were asked for again, or edited.

A conversation that goes on holds the answer that was kept, as its client sent it back. So

- where the same prompt was answered more than once in one conversation, the answer that the
  conversation went on with is better than the others (``regeneration``); where it did not go on,
  only an answer that the user is known to have asked again for is worse than the last one;
- where the conversation went on with an answer that no model gave, but that shares most of its
  words with one, somebody has edited it: the edited answer is better (``edit``).

Only conversations with an id are looked at: two users who ask the same are no conversation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from palate.curate.signals import Judged
from palate.records import CONVERSATION_TAGS, Completion, Example, Message, Provenance, Verdict

ALIKE = 0.5  # share of words that an edited answer has in common with the original


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer as a later row of the conversation holds it, and where that row stands."""

    messages: tuple[Message, ...]
    rows: tuple[Provenance, ...]


@dataclass(slots=True)
class _Turn:
    """A prompt of one conversation, with the answers it got and those it went on with."""

    answers: dict[str, Judged] = field(default_factory=dict)
    kept: dict[str, _Kept] = field(default_factory=dict)


def from_traffic(judged: Sequence[Judged]) -> list[Example]:
    """The pairs, conversation by conversation in the order of their first rows."""
    made: list[Example] = []
    for conversation in _conversations(judged):
        turns = _turns(conversation)
        for turn in turns.values():
            made += _regenerated(turn)
            made += _edited(turn)
    return made


def _conversations(judged: Sequence[Judged]) -> Iterator[list[Judged]]:
    """Those with an id and more than one row, each in the order of time."""
    found: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        example = one.example
        tagged = any(tag in example.tags for tag in CONVERSATION_TAGS)
        if tagged and example.prompt and example.verdict is None and len(example.completions) == 1:
            found[example.conversation].append(one)
    for rows in found.values():
        if len(rows) > 1:
            yield sorted(rows, key=_time)


def _turns(conversation: Sequence[Judged]) -> dict[str, _Turn]:
    turns: dict[str, _Turn] = defaultdict(_Turn)
    for one in conversation:
        answer = one.example.completions[0]
        known = turns[one.example.prompt_key].answers
        known.pop(answer.content_key, None)  # given again: it is the later one
        known[answer.content_key] = one
    for one in conversation:
        example = one.example
        for at, message in enumerate(example.prompt):
            if message.role != "assistant" or at == 0:
                continue
            if example.prompt[at - 1].role not in {"user", "tool"}:
                continue
            before = replace(example, prompt=example.prompt[:at]).prompt_key
            if before in turns:
                kept = Completion((message,))
                # The first row that holds it: the later ones only repeat it.
                found = _Kept(kept.messages, example.provenance)
                turns[before].kept.setdefault(kept.content_key, found)
    return turns


def _regenerated(turn: _Turn) -> list[Example]:
    """The one answer that was kept over each of the others."""
    answers = list(turn.answers.items())
    kept = [key for key in turn.kept if key in turn.answers]
    if len(answers) < 2 or len(kept) > 1:
        return []
    if kept:
        best, others = kept[0], [key for key, _ in answers if key != kept[0]]
    else:
        best = answers[-1][0]
        others = [key for key, one in answers[:-1] if _asked_again(one)]
    return [_pair(turn.answers[best], turn.answers[key]) for key in others]


def _asked_again(one: Judged) -> bool:
    return any(signal.kind == "again" for signal in one.signals)


def _pair(better: Judged, worse: Judged) -> Example:
    rows = better.example.provenance + worse.example.provenance
    answers = tuple(_bare(one.example.completions[0]) for one in (better, worse))
    return replace(
        better.example,
        completions=answers,
        verdict=Verdict(0, 1, "regeneration"),
        provenance=tuple(dict.fromkeys(rows)),
    )


def _edited(turn: _Turn) -> list[Example]:
    made = []
    for key, kept in turn.kept.items():
        if key in turn.answers or not turn.answers:
            continue
        edited = Completion(kept.messages)
        nearest = max(turn.answers.values(), key=lambda one: _shared(edited, one))
        if _shared(edited, nearest) < ALIKE:
            continue
        original = _bare(nearest.example.completions[0])
        rows = nearest.example.provenance + kept.rows
        pair = replace(
            nearest.example,
            completions=(edited, original),
            verdict=Verdict(0, 1, "edit"),
            provenance=tuple(dict.fromkeys(rows)),
        )
        made.append(pair)
    return made


def _shared(edited: Completion, one: Judged) -> float:
    """Words in common over the words of the longer text, counted as often as they stand."""
    ours = Counter(edited.text.split())
    theirs = Counter(one.example.completions[0].text.split())
    longer = max(ours.total(), theirs.total())
    return (ours & theirs).total() / longer if longer else 0.0


def _bare(completion: Completion) -> Completion:
    return replace(completion, label=None, score=None)


def _time(one: Judged) -> str:
    first = one.example.provenance[:1]
    return (first[0].time if first else None) or ""
