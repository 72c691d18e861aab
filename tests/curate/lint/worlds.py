"""Made-up preference data: clean, and with one fault planted in it.

In the clean world every prompt has a subject, and the better answer is the one that keeps to it:
a preference that can be learned, and that neither length, form nor any word alone shows. Which
answer is longer, has a list or opens with which words is drawn by chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from palate.records import Completion, Example, Message, Provenance, Verdict

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za bre cla dro fli gra"
_SMALL = "the of and to in is that it for as with on be at by this from or an are was not"
_ASKS = "how what why when where who which can could should is are does do please"
_WHOM = "i you we they anyone people one it some most"
_OPENINGS = "sure well yes so here there in for you we some most many think consider note"


@dataclass(frozen=True)
class Row:
    """One pair before it becomes an example; `finish`, `sources` are of the two answers."""

    prompt: str
    chosen: list[str]
    rejected: list[str]
    held: bool = False
    by: str = "file"
    sources: tuple[str | None, str | None] = (None, None)
    system: str | None = None

    def swapped(self) -> Row:
        """The other answer wins."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, sources=self.sources[::-1])


class World:
    """A generator of words, prompts and answers by one seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        made = {"".join(self.draw.choices(_SYLLABLES.split(), k=3)) for _ in range(4000)}
        self.words = sorted(made)
        self.draw.shuffle(self.words)
        self.small, self.openings = _SMALL.split(), _OPENINGS.split()
        self.beginnings = [f"{one} {two}" for one in _ASKS.split() for two in _WHOM.split()]
        self.weights = [1 / (rank + 20) for rank in range(len(self.words))]

    def content(self, count: int) -> list[str]:
        """Words by their frequency."""
        return self.draw.choices(self.words, self.weights, k=count)

    def sentence(self, count: int) -> str:
        """A sentence of so many words."""
        said = [
            self.draw.choice(self.small) if self.draw.random() < 0.45 else word
            for word in self.content(count)
        ]
        return " ".join(said).capitalize() + "."

    def prompt(self, subject: str) -> str:
        """A question about the subject."""
        rest = self.content(self.draw.randint(6, 24))
        return f"{self.draw.choice(self.beginnings).capitalize()} {subject} {' '.join(rest)}?"

    def answer(self, subject: str, words: float) -> list[str]:
        """Sentences, with whatever form chance gives them."""
        lines = [
            f"{self.draw.choice(self.openings).capitalize()} {subject} {self.sentence(8).lower()}"
        ]
        while sum(len(line.split()) for line in lines) < words:
            lines.append(self.sentence(self.draw.randint(6, 16)))
        for mark in MARKS.values():
            if self.draw.random() < 0.2:
                lines = mark(lines, self.draw)
        return lines

    def row(self, held: bool) -> Row:
        """A pair whose better answer keeps to the subject."""
        subject, other = self.draw.sample(self.words, 2)
        sizes = [15 + self.draw.lognormvariate(4.2, 0.5) for _ in range(2)]
        right, wrong = self.answer(subject, sizes[0]), self.answer(other, sizes[1])
        return Row(self.prompt(subject), right, wrong, held)


Lines = list[str]


def _first(change: Callable[[str], str]) -> Callable[[Lines, random.Random], Lines]:
    """A change of one line in the middle."""

    def mark(lines: Lines, draw: random.Random) -> Lines:
        at = draw.randrange(1, len(lines))
        return [change(line) if i == at else line for i, line in enumerate(lines)]

    return mark


def _instead(words: str) -> Callable[[Lines, random.Random], Lines]:
    """So many words of a line in the middle are replaced."""

    def change(line: str) -> str:
        said = line.split(" ")
        return " ".join([said[0], words, *said[1 + len(words.split()) :]])

    return _first(change)


def _at_end(end: str) -> Callable[[Lines, random.Random], Lines]:
    return lambda lines, _: [*lines[:-1], lines[-1].rstrip(".?!") + end]


MARKS: dict[str, Callable[[Lines, random.Random], Lines]] = {
    "headings": _first(lambda line: f"## {line}"),
    "bullets": _first(lambda line: f"- {line}"),
    "numbered": _first(lambda line: f"a) {line}"),  # no mark of its own in the clean world
    "bold": _first(lambda line: f"**{line}**"),
    "code": _first(lambda line: f"```\n{line}\n```"),
    "table": _first(lambda line: f"| {line} |"),
    "emoji": _first(lambda line: f"{line} \U0001f600"),
    "exclamation": _first(lambda line: line.rstrip(".") + "!"),
    "question": _at_end("?"),
    "digits": _instead("17"),
    "link": _first(lambda line: line.replace(" ", " https://", 1)),
    "apology": _instead("sorry"),
    "refusal": _instead("i cannot help"),
}
NUMBERED = _first(lambda line: f"1. {line}")


@cache
def clean(seed: int, train: int = 600, held: int = 100) -> tuple[Row, ...]:
    """Pairs without a fault."""
    world = World(seed)
    return tuple(world.row(at >= train) for at in range(train + held))


def examples(rows: Sequence[Row]) -> tuple[list[Example], list[Example]]:
    """(train, held-out) pairs."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for line, row in enumerate(rows, 1):
        completions = tuple(
            Completion((Message("assistant", "\n".join(lines)),), source=source)
            for lines, source in zip((row.chosen, row.rejected), row.sources, strict=True)
        )
        system = (Message("system", row.system),) if row.system else ()
        made = Example(
            (*system, Message("user", row.prompt)),
            completions,
            Verdict(0, 1, by=row.by),
            provenance=(Provenance("made.jsonl", line),),
        )
        sides[row.held].append(made)
    return sides


def thumbs(rows: Sequence[Row]) -> tuple[list[Example], list[Example]]:
    """(train, held-out) single answers with thumbs: of each pair one of the two answers."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for line, row in enumerate(rows, 1):
        up = line % 2 == 0
        text = "\n".join(row.chosen if up else row.rejected)
        answer = Completion((Message("assistant", text),), label=up)
        made = Example(
            (Message("user", row.prompt),), (answer,), provenance=(Provenance("made", line),)
        )
        sides[row.held].append(made)
    return sides


def ranked(
    rows: Sequence[Row], better: Callable[[Row], float], share: float, seed: int = 0
) -> list[Row]:
    """The rows; what `better` favours (above 0: the chosen answer) wins in `share` of them."""
    draw = random.Random(seed)
    out = []
    for row in rows:
        leads = better(row)
        wins = draw.random() < share
        out.append(row if leads == 0 or (leads > 0) == wins else row.swapped())
    return out


def size(lines: Lines) -> int:
    """Words of an answer."""
    return sum(len(line.split()) for line in lines)


def marked(
    rows: Sequence[Row],
    mark: Callable[[Lines, random.Random], Lines],
    share: float = 0.75,
    among: float = 0.5,
    seed: int = 0,
) -> list[Row]:
    """In so many of the rows one answer gets a mark; it wins in `share` of them."""
    draw = random.Random(seed)
    out = []
    for row in rows:
        if draw.random() >= among:
            out.append(row)
        elif draw.random() < share:
            out.append(replace(row, chosen=mark(row.chosen, draw)))
        else:
            out.append(replace(row, rejected=mark(row.rejected, draw)))
    return out


def reworded(prompt: str, draw: random.Random, world: World) -> str:
    """The prompt with one word changed."""
    said = prompt.split(" ")
    said[draw.randrange(3, len(said))] = world.content(1)[0]
    return " ".join(said)


def some(rows: Sequence[Row], share: float, seed: int = 0) -> Iterator[tuple[int, bool]]:
    """(index, whether it is among the share) for each row."""
    draw = random.Random(seed)
    for index in range(len(rows)):
        yield index, draw.random() < share
