"""One pass of a judge over a store: what it has not judged yet, its verdicts, its agreement."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from palate.config import ConfigError
from palate.progress import Reporter
from palate.records import JUDGE, Example, Signal

if TYPE_CHECKING:
    from palate.judge.opinion import Opinion, Score
    from palate.sections import JudgeConfig
    from palate.store.database import Store
    from palate.store.judging import Judgement
    from palate.store.reading import Stored

CHUNK = 16  # interactions of which the verdicts are written together


@dataclass(slots=True)
class Counts:
    """What came of it: verdicts and scores, ties, what was there before, failures by reason."""

    items: int = 0
    known: int = 0
    judged: int = 0
    ties: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Item:
    """Answers of one interaction that are to be judged: two to compare, or one to score."""

    id: str
    interaction: str
    example: Example
    places: tuple[int, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The words under judgement."""
        return tuple(self.example.completions[place].text for place in self.places)


class Filling:
    """One pass of a judge over a store."""

    def __init__(self, store: Store, config: JudgeConfig, identity: str, pairs: bool) -> None:
        self.store, self.config, self.pairs = store, config, pairs
        self.identity, self.by = identity, JUDGE + config.label
        self.counts = Counts()
        self.spent: dict[str, Any] = {}

    def run(self, limit: int | None, say: Reporter) -> None:
        """Judge all that has no verdict of this judge yet, at most `limit` items."""
        from palate.judge.build import build_pair_judge, build_scorer
        from palate.store.judging import add_judgements
        from palate.store.reading import interactions

        keys = interactions(self.store)
        with ExitStack() as stack, say.bar("judging", len(keys)) as bar:
            judge: Any = None
            for at in range(0, len(keys), CHUNK):
                part = keys[at : at + CHUNK]
                left = None if limit is None else limit - self._done
                items = self._new(part)[:left]
                if items and judge is None:  # nothing is loaded where nothing is left to do
                    build = build_pair_judge if self.pairs else build_scorer
                    judge = stack.enter_context(build(self.config))
                try:
                    said = self._compare(judge, items) if self.pairs else self._score(judge, items)
                finally:
                    self.spent = _spent(judge)
                add_judgements(self.store, said, self.by)
                bar.advance(len(part), f"{self.counts.judged} judged")
                if limit is not None and self._done >= limit:
                    break
        if not self.counts.items:
            raise ConfigError(_nothing(self.store.name, self.pairs))

    @property
    def _done(self) -> int:
        return self.counts.judged + self.counts.failures.total()

    def _new(self, keys: Sequence[str]) -> list[Item]:
        """What of these interactions this judge has not judged."""
        from palate.store.judging import known_judgements
        from palate.store.reading import stored_of

        items = [item for one in stored_of(self.store, keys) for item in self._items(one)]
        known = known_judgements(self.store, [item.id for item in items])
        self.counts.items += len(items)
        self.counts.known += len(known)
        return [item for item in items if item.id not in known]

    def _items(self, one: Stored) -> Iterator[Item]:
        from palate.store.judging import judgement_id

        answers = one.example.completions if one.example.prompt else ()
        worded = [place for place, answer in enumerate(answers) if answer.text.strip()]
        for places in combinations(worded, 2 if self.pairs else 1):
            if len({answers[place].content_key for place in places}) == len(places):
                key = judgement_id(self.identity, one.id, places)
                yield Item(key, one.id, one.example, places)

    def _compare(self, judge: Any, items: Sequence[Item]) -> list[Judgement]:
        from palate.judge.opinion import Question

        if not items:
            return []
        opinions = judge.compare([Question(item.example, *item.texts) for item in items])
        made = [self._vote(item, said) for item, said in zip(items, opinions, strict=True)]
        return [one for one in made if one is not None]

    def _score(self, judge: Any, items: Sequence[Item]) -> list[Judgement]:
        from palate.judge.opinion import Answered

        if not items:
            return []
        asked = [
            Answered(item.example, item.texts[0], _finished(item.example, item.places[0]))
            for item in items
        ]
        made = [
            self._number(item, said) for item, said in zip(items, judge.score(asked), strict=True)
        ]
        return [one for one in made if one is not None]

    def _vote(self, item: Item, said: Opinion) -> Judgement | None:
        if said.first_wins is None:
            self.counts.failures[said.failure or "no reason"] += 1
            return None
        self.counts.judged += 1
        first, second = item.places
        if said.first_wins == 0.5:
            self.counts.ties += 1
            return self._judgement(item, said.raw, kind="tie", choice=first, over=second)
        better, worse = (first, second) if said.first_wins > 0.5 else (second, first)
        sure = max(said.first_wins, 1 - said.first_wins)
        return self._judgement(
            item, said.raw, kind="vote", choice=better, over=worse, strength=sure
        )

    def _number(self, item: Item, said: Score) -> Judgement | None:
        if said.value is None:
            self.counts.failures[said.failure or "no reason"] += 1
            return None
        self.counts.judged += 1
        raw = (*said.failed, *said.raw)
        return self._judgement(item, raw, kind="score", choice=item.places[0], score=said.value)

    def _judgement(self, item: Item, raw: Sequence[str], **said: Any) -> Judgement:
        from palate.store.judging import Judgement

        words = json.dumps({"judge": self.identity, "raw": list(raw)}, ensure_ascii=False)
        signal = Signal((), name=self.by, by=self.by, comment=words, **said)
        return Judgement(item.id, item.interaction, signal)


def agreement_with_people(store: Store, identity: str) -> list[dict[str, Any]]:
    """κ and raw agreement of the judge with what stands in the store, and of named people.

    What is compared are pairs of answers that both ranked; a judge's tie counts as a word of its
    own. `Signal.by` names people; without a name all are one, by their majority.
    """
    from palate.evaluate.intervals import wilson
    from palate.judge.agreement import agreement
    from palate.store.reading import stored

    words: dict[str, dict[tuple[str, int, int], int]] = {}
    for one in stored(store):
        for who, pair, word in _words(one, identity):
            words.setdefault(who, {})[pair] = word
    found = []
    for first, second in combinations(sorted(words), 2):
        mine, theirs = words[first], words[second]
        shared = sorted(mine.keys() & theirs.keys())
        if not shared:
            continue
        both = agreement([mine[pair] for pair in shared], [theirs[pair] for pair in shared])
        low, high = wilson(both.same, both.count)
        found.append(
            {
                "between": [first, second],
                "pairs": both.count,
                "agreement": both.share,
                "agreement_interval": [low, high],
                "kappa": both.kappa,
                "kappa_interval": [both.low, both.high],
            }
        )
    return found


def _words(one: Stored, identity: str) -> Iterator[tuple[str, tuple[str, int, int], int]]:
    """(who, which pair, 1 for its first answer, -1 for its second, 0 for a tie)."""
    majority: Counter[tuple[int, int]] = Counter()
    for signal in one.signals:
        if signal.kind not in {"vote", "tie"} or signal.choice is None or signal.over is None:
            continue
        pair = (min(signal.choice, signal.over), max(signal.choice, signal.over))
        word = 0 if signal.kind == "tie" else 1 if signal.choice == pair[0] else -1
        if signal.judged:
            if json.loads(signal.comment or "{}").get("judge") == identity:
                yield "the judge", (one.id, *pair), word
            continue
        majority[pair] += word
        if signal.by:
            yield signal.by, (one.id, *pair), word
    for pair, sum_ in majority.items():
        if sum_:
            yield "the data's votes", (one.id, *pair), 1 if sum_ > 0 else -1


def _finished(example: Example, place: int) -> bool:
    return example.completions[place].finish_reason != "length"


def _spent(judge: Any) -> dict[str, Any]:
    from dataclasses import asdict

    spent = getattr(judge, "spent", None)
    return {} if spent is None else asdict(spent)


def _nothing(name: str, pairs: bool) -> str:
    if pairs:
        return (
            f"no interaction in {name} has two different answers to compare: use --ask scores, "
            "which make pairs of the answers to one prompt"
        )
    return f"no interaction in {name} has an answer to score"
