"""What was said about answers, joined to them: thumbs, scores, edits and votes.

The rules, where several people speak about one answer:

- of one person, who has a name in the log, the last word counts; without names each is a voice;
- a thumb is the majority's; as many up as down is no thumb (``contradictory``);
- a score is the mean, over one name of scores;
- an edit makes a pair, the edited answer over the original; the last edit of each person counts;
- a vote makes a pair; of opposite votes on the same two answers the majority's counts, and as many
  on each side make none (``contradictory``); a vote that both are bad is a thumb down for each of
  those that were shown;
- a judge's vote counts where no person, and no file, ranks the same two answers;
- where somebody settled what others disagreed about, that word counts and theirs do not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from palate.curate.rejects import OnReject, reject
from palate.ingest import IngestError
from palate.records import (
    ADJUDICATED,
    Arrival,
    Completion,
    Example,
    Provenance,
    Reject,
    Signal,
    Verdict,
)

MOST_NAMES = 8  # that an error lists


@dataclass(frozen=True, slots=True)
class Judged:
    """An example, and what was said about its answers in other rows, in the order of time."""

    example: Example
    signals: tuple[Signal, ...] = ()


def own_signals(example: Example) -> Iterator[Signal]:
    """What the example itself says of its answers: thumbs, scores and its verdict."""
    for index, completion in enumerate(example.completions):
        if completion.label is not None:
            yield Signal((), "thumb", index, label=completion.label)
        if completion.score is not None:
            yield Signal((), "score", index, score=completion.score)
    verdict = example.verdict
    if verdict is not None:
        yield Signal(
            (),
            "vote",
            verdict.better,
            over=verdict.worse,
            strength=verdict.strength,
            name=verdict.by,
        )


def join(arrivals: Iterable[Arrival], on_reject: OnReject) -> list[Judged]:
    """Each example with the signals that name it, wherever those stood.

    A signal that names no answer that is here is a reject, ``no-such-answer``. Of examples with
    an id in common the first gets the signals. See `attach` for those about a whole trace.
    """
    examples: list[Example] = []
    places: dict[str, int] = {}
    signals: list[Signal] = []
    for arrival in arrivals:
        if isinstance(arrival.record, Signal):
            signals.append(arrival.record)
            continue
        for name in arrival.ids:
            places.setdefault(name, len(examples))
        examples.append(arrival.record)
    found = [places_of(signal, places) for signal in signals]
    return attach(examples, list(zip(signals, found, strict=True)), on_reject)


def places_of(signal: Signal, places: Mapping[str, int]) -> int | None:
    """Where the first of the signal's names that is known leads."""
    return next((places[name] for name in signal.about if name in places), None)


def attach(
    examples: Sequence[Example],
    signals: Sequence[tuple[Signal, int | None]],
    on_reject: OnReject,
) -> list[Judged]:
    """The examples, each with its signals in the order of time.

    A signal without a place may be about a trace (`langfuse:trace/42`): it is taken to mean the
    one answer of that trace (by the tag `trace_id`), and no answer where there are several.
    """
    traces: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        if "trace_id" in example.tags:
            traces[example.tags["trace_id"]].append(index)
    said: dict[int, list[Signal]] = defaultdict(list)
    for signal, place in signals:
        in_trace = _of_trace(signal, traces) if place is None else [place]
        if len(in_trace) == 1:
            said[in_trace[0]].append(signal)
        else:
            on_reject(_unjoined(signal, len(in_trace)))
    return [Judged(e, tuple(sorted(said[i], key=_time))) for i, e in enumerate(examples)]


def _of_trace(signal: Signal, traces: Mapping[str, list[int]]) -> list[int]:
    for name in signal.about:
        _, is_trace, key = name.partition(":trace/")
        if is_trace and key in traces:
            return traces[key]
    return []


def settle(
    judged: Sequence[Judged], on_reject: OnReject, score: str | None = None
) -> list[Example]:
    """The examples with labels, scores and verdicts as the rules above give them.

    `score` names the score that tells better from worse; where None, all must have one name.
    Raises `IngestError` if there are several, or none of that name.
    """
    chosen = _score_name(judged, score)
    return [example for one in judged for example in _settle(one, chosen, on_reject)]


def _settle(judged: Judged, score: str | None, on_reject: OnReject) -> list[Example]:
    example = judged.example
    signals = [s for s in judged.signals if s.kind != "score" or s.name in {None, score}]
    if not signals:
        return [example]
    count = len(example.completions)
    every = _decided([*own_signals(example), *_last_words(signals, count)], count)
    fitting = [s for s in every if _within(s, count)]
    for signal in every:
        if not _within(signal, count):
            detail = f"the {signal.kind} names answer {signal.choice}, and there are {count}"
            on_reject(reject(_with_rows(example, [signal]), "no-such-answer", detail))
    completions = tuple(
        _judged_answer(example, index, fitting, on_reject) for index in range(count)
    )
    plain = _with_rows(replace(example, completions=completions, verdict=None), fitting)
    made = [*_votes(plain, fitting, on_reject), *_edits(plain, fitting)]
    told = any(c.label is not None for c in completions)
    told |= example.verdict is None and any(c.score is not None for c in completions)
    return [*made, plain] if told or not made else made


def _judged_answer(
    example: Example, index: int, signals: Sequence[Signal], on_reject: OnReject
) -> Completion:
    completion = example.completions[index]
    thumbs = Counter(s.label for s in signals if s.kind == "thumb" and s.choice == index)
    thumbs[False] += sum(
        s.kind == "vote" and s.choice is None and (not s.shown or index in s.shown) for s in signals
    )
    label = None if thumbs[True] == thumbs[False] else thumbs[True] > thumbs[False]
    if label is None and thumbs[True]:
        detail = f"as many thumbs up as down ({thumbs[True]}) on the same answer"
        on_reject(reject(example, "contradictory", detail))
    scores = [s.score for s in signals if s.kind == "score" and s.choice == index]
    known = [value for value in scores if value is not None]
    mean = sum(known) / len(known) if known else None
    return replace(completion, label=label, score=mean)


def _votes(example: Example, signals: Sequence[Signal], on_reject: OnReject) -> Iterator[Example]:
    sides: dict[tuple[int, int], list[Signal]] = defaultdict(list)
    for vote in signals:
        if vote.kind == "vote" and vote.choice is not None and vote.over is not None:
            sides[vote.choice, vote.over].append(vote)
    ranked = {frozenset(pair) for pair, votes in sides.items() if not all(v.judged for v in votes)}
    for pair, votes in sides.items():
        if frozenset(pair) in ranked:
            sides[pair] = [vote for vote in votes if not vote.judged]
    for (better, worse), votes in sides.items():
        against = len(sides.get((worse, better), ()))
        if len(votes) == against and better < worse:
            detail = f"as many votes for the one answer as for the other ({against})"
            on_reject(reject(example, "contradictory", detail))
        if len(votes) <= against:
            continue
        strengths = [vote.strength for vote in votes if vote.strength is not None]
        strength = sum(strengths) / len(strengths) if strengths else None
        by = votes[0].name or "vote"
        yield replace(example, verdict=Verdict(better, worse, by, strength))


def _edits(example: Example, signals: Sequence[Signal]) -> Iterator[Example]:
    """The edited answer over the one that it was made of."""
    for edit in signals:
        if edit.kind != "edit" or edit.choice is None:
            continue
        original = replace(example.completions[edit.choice], label=None, score=None)
        edited = Completion(edit.edit, source=edit.by)
        if edited.content_key != original.content_key:
            yield replace(example, completions=(edited, original), verdict=Verdict(0, 1, "edit"))


def _last_words(signals: Sequence[Signal], count: int) -> list[Signal]:
    """Without what the same person said before about the same of the `count` answers."""
    last: dict[object, Signal] = {}  # votes on the same two answers are about the same
    for number, signal in enumerate(signals):
        places: set[int | None] = {signal.choice}
        if signal.kind in {"vote", "tie"}:  # that all are bad is about all that were shown
            every = signal.shown or range(count)
            places = set(every) if signal.choice is None else {signal.choice, signal.over}
        kind = "vote" if signal.kind == "tie" else signal.kind
        about = (signal.by, kind, signal.name, frozenset(places))
        key = (number,) if signal.by is None else about
        last.pop(key, None)
        last[key] = signal
    return list(last.values())


def _decided(signals: Sequence[Signal], count: int) -> list[Signal]:
    """Without what others said of answers on which somebody had the last word."""
    settled = {_topic(s, count) for s in signals if s.name == ADJUDICATED}
    return [s for s in signals if s.name == ADJUDICATED or _topic(s, count) not in settled]


def _topic(signal: Signal, count: int) -> tuple[str, frozenset[int | None]]:
    """What it is a word on: one answer or two, which are all `count` where they are not named."""
    if signal.kind not in {"vote", "tie"}:
        return signal.kind, frozenset({signal.choice})
    if signal.choice is None:
        return "vote", frozenset(signal.shown or range(count))
    return "vote", frozenset({signal.choice, signal.over})


def _score_name(judged: Sequence[Judged], wanted: str | None) -> str | None:
    scores = (s.name for one in judged for s in one.signals if s.kind == "score")
    names = Counter(name for name in scores if name is not None)
    most = names.most_common(MOST_NAMES)
    listed = ", ".join(f"{' '.join(name.split())} {count}" for name, count in most)
    if wanted is not None:
        if names and wanted not in names:
            raise IngestError(f"no score is called '{wanted}' (data.score); there is: {listed}")
        return wanted
    if len(names) > 1:
        raise IngestError(
            f"the answers have scores of several names ({listed}): say which of them tells better "
            "from worse, with data.score=NAME"
        )
    return next(iter(names), None)


def _within(signal: Signal, count: int) -> bool:
    places = [place for place in (signal.choice, signal.over) if place is not None]
    return all(0 <= place < count for place in places)


def _with_rows(example: Example, signals: Sequence[Signal]) -> Example:
    """The example with the rows of the signals beside its own."""
    rows: list[Provenance] = [*example.provenance]
    rows += [row for signal in signals for row in signal.provenance]
    return replace(example, provenance=tuple(dict.fromkeys(rows)))


def _unjoined(signal: Signal, answers: int) -> Reject:
    where = next(iter(signal.provenance), Provenance("", 0))
    about = ", ".join(signal.about[:3]) or "nothing"
    said = f"of which there are {answers} answers" if answers else "which is not here"
    return Reject(
        where.source, where.line, "no-such-answer", f"the {signal.kind} is about {about}, {said}"
    )


def _time(signal: Signal) -> str:
    return (signal.provenance[0].time if signal.provenance else None) or ""
