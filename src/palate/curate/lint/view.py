"""What the checks look at: the examples, drawn if there are too many, and what is made of them.

Everything is computed when a check first asks for it, and once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from palate.curate.lint.shares import Floats, Ints
from palate.curate.lint.target import TargetModel
from palate.curate.lint.text import count_words
from palate.curate.near_duplicates import prompt_groups
from palate.curate.said import answer_text, asked
from palate.records import Completion, Example

if TYPE_CHECKING:
    from palate.curate.lint.features import Form
    from palate.curate.lint.models import Bag, Predicted

# What is read and counted, and what models are fitted on. A share of 20,000 is known to 0.7
# points, closer than any threshold here; more would only take longer.
MOST_EXAMPLES = 100_000
MOST_CONTESTS = 20_000
FOLDS = 5

TokenCount = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the index of its example, its text, its length in words, and its rank.

    `rank` is +1 for a chosen answer or a thumb up, −1 for a rejected one or a thumb down, 0
    where nothing is known.
    """

    example: int
    text: str
    words: int
    rank: int
    completion: Completion


@dataclass(frozen=True, slots=True)
class Contests:
    """Better answers against worse ones, as indices into `View.answers`.

    A pair is one contest; of labelled data, an answer with a thumb up is matched with one with a
    thumb down by chance, within a fold. `groups` are near-duplicate clusters of prompts; a group
    lies in one fold.
    """

    winners: Ints
    losers: Ints
    groups: Ints
    folds: Ints

    def __len__(self) -> int:
        return len(self.winners)


class View:
    """The examples of a snapshot, and what several checks need of them."""

    def __init__(
        self,
        train: Sequence[Example],
        heldout: Sequence[Example] | None,
        *,
        seed: int = 0,
        rejected: Mapping[str, int] | None = None,
        tokens: TokenCount | None = None,
        model: TargetModel | None = None,
    ) -> None:
        self.is_split = heldout is not None
        heldout = heldout or ()
        self.given = len(train) + len(heldout)
        self.seed, self.tokens, self.model = seed, tokens, model
        self.rejected = dict(rejected or {})
        self.train, self.heldout = _drawn(train, heldout, seed)
        self.examples = [*self.train, *self.heldout]

    @cached_property
    def shape(self) -> str:
        """The shape that most examples have; ``pair`` if there is none."""
        shapes = [example.shape for example in self.examples]
        return max(sorted(set(shapes), reverse=True), key=shapes.count, default="pair")

    @cached_property
    def answers(self) -> list[Answer]:
        """All answers, in the order of the examples; of a pair, the chosen one first."""
        found = []
        for index, example in enumerate(self.examples):
            for completion, rank in _ranked(example):
                text = answer_text(completion)
                found.append(Answer(index, text, count_words(text), rank, completion))
        return found

    @cached_property
    def prompts(self) -> list[str]:
        """What the user said in each example; of plain text, the text."""
        return [asked(example) for example in self.examples]

    @cached_property
    def clusters(self) -> Ints:
        """For each example, the number of the near-duplicates' group that its prompt is in.

        The groups are those of ``data.split_by=cluster``.
        """
        names: dict[str, int] = {}
        found = [names.setdefault(name, len(names)) for name in prompt_groups(self.examples)]
        return np.array(found, dtype=np.int64)

    @cached_property
    def folds(self) -> Ints:
        """For each example one of five folds, near-duplicate prompts together; −1 if too few."""
        from sklearn.model_selection import GroupKFold

        folds = np.full(len(self.examples), -1, dtype=np.int64)
        if len(set(self.clusters.tolist())) < 2 * FOLDS:
            return folds
        blank = np.zeros(len(folds))
        for number, (_, test) in enumerate(GroupKFold(FOLDS).split(blank, groups=self.clusters)):
            folds[test] = number
        return folds

    @cached_property
    def contests(self) -> Contests:
        """At most `MOST_CONTESTS` contests, drawn by the seed; none with too few prompts."""
        winners, losers = self._paired() if self.shape == "pair" else self._matched()
        if len(winners) > MOST_CONTESTS:
            draw = np.random.default_rng(self.seed)
            kept = np.sort(draw.choice(len(winners), MOST_CONTESTS, replace=False))
            winners, losers = winners[kept], losers[kept]
        examples = np.array([self.answers[at].example for at in winners], dtype=np.int64)
        return Contests(winners, losers, self.clusters[examples], self.folds[examples])

    def _paired(self) -> tuple[Ints, Ints]:
        at = [i for i, answer in enumerate(self.answers) if answer.rank > 0]
        usable = [i for i in at if self._is_pair(i) and self.folds[self.answers[i].example] >= 0]
        winners = np.array(usable, dtype=np.int64)
        return winners, winners + 1

    def _is_pair(self, winner: int) -> bool:
        return self.examples[self.answers[winner].example].verdict is not None

    def _matched(self) -> tuple[Ints, Ints]:
        draw = random.Random(self.seed)
        winners: list[int] = []
        losers: list[int] = []
        for fold in range(FOLDS):
            sides: dict[int, list[int]] = {1: [], -1: []}
            for index, answer in enumerate(self.answers):
                if answer.rank and self.folds[answer.example] == fold:
                    sides[answer.rank].append(index)
            for side in sides.values():
                draw.shuffle(side)
            count = min(map(len, sides.values()))
            winners += sides[1][:count]
            losers += sides[-1][:count]
        return np.array(winners, dtype=np.int64), np.array(losers, dtype=np.int64)

    @cached_property
    def lengths(self) -> Floats:
        """Words of each answer."""
        return np.array([answer.words for answer in self.answers], dtype=np.float64)

    @cached_property
    def form(self) -> Form:
        """Length, surface features and openings of all contests."""
        from palate.curate.lint.features import form_of

        return form_of(self)

    @cached_property
    def by_form(self) -> Predicted:
        """What form alone predicts of each contest."""
        from palate.curate.lint.models import fit_form

        return fit_form(self.form, self.contests.folds)

    @cached_property
    def bag(self) -> Bag:
        """What a bag of words predicts of each contest."""
        from palate.curate.lint.models import fit_bag

        return fit_bag(self)

    def ids(self, examples: Sequence[int]) -> tuple[str, ...]:
        """Ids of some examples, each once."""
        return tuple(dict.fromkeys(self.examples[index].id for index in examples))

    def where(self, answers: Ints) -> list[int]:
        """The examples of some answers."""
        return [self.answers[int(index)].example for index in answers]


def _ranked(example: Example) -> list[tuple[Completion, int]]:
    if example.verdict is not None:
        return [(example.chosen, 1), (example.rejected, -1)]
    labels = {True: 1, False: -1, None: 0}
    return [(completion, labels[completion.label]) for completion in example.completions]


def _drawn(
    train: Sequence[Example], heldout: Sequence[Example], seed: int
) -> tuple[list[Example], list[Example]]:
    """Both sides; of more than `MOST_EXAMPLES`, whole prompts drawn by the seed."""
    total = len(train) + len(heldout)
    if total <= MOST_EXAMPLES:
        return list(train), list(heldout)
    keys = [example.prompt_key for example in (*train, *heldout)]
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    kept: set[str] = set()
    count = 0
    for key in order:
        if count + sizes[key] <= MOST_EXAMPLES:
            kept.add(key)
            count += sizes[key]
    sides = [
        [example for example, key in zip(side, side_keys, strict=True) if key in kept]
        for side, side_keys in ((train, keys[: len(train)]), (heldout, keys[len(train) :]))
    ]
    return sides[0], sides[1]
