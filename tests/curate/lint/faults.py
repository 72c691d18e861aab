"""Faults, planted at a moderate strength in clean data: name of the check → the data with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.curate.lint.worlds import (
    MARKS,
    NUMBERED,
    Lines,
    Row,
    World,
    clean,
    examples,
    marked,
    ranked,
    reworded,
    size,
    thumbs,
)

from palate.records import Completion, Example

Sides = tuple[list[Example], list[Example]]


def longer_wins(rows: Sequence[Row]) -> list[Row]:
    """In three of four pairs."""
    return ranked(rows, lambda row: size(row.chosen) - size(row.rejected), 0.75)


def middle_wins(rows: Sequence[Row]) -> list[Row]:
    """In three of four pairs the answer nearer to 80 words, which is about the median."""
    return ranked(rows, lambda row: abs(size(row.rejected) - 80) - abs(size(row.chosen) - 80), 0.75)


def mark_wins(name: str) -> Callable[[Sequence[Row]], list[Row]]:
    """In half of the pairs one answer has it, and wins in three of four."""
    mark = NUMBERED if name == "numbered" else MARKS[name]
    return lambda rows: marked(rows, mark)


def opening_wins(rows: Sequence[Row], share: float = 0.75, among: float = 0.5) -> list[Row]:
    """In half of the pairs one answer opens with it, and wins in three of four."""

    def open_so(lines: Lines, _: random.Random) -> Lines:
        first, _, rest = lines[0].partition(" ")
        return [f"Certainly {rest}", *lines[1:]] if first else lines

    return marked(rows, open_so, share, among)


def taste_in_words(
    rows: Sequence[Row], flipped: float = 0.0, telling: float = 0.33, seed: int = 0
) -> list[Row]:
    """Of six words that tell, a better answer has twice as many of one kind; labels flip."""
    draw = random.Random(seed)
    taste = World(999).words[:40]
    out = []
    for row in rows:
        sides = []
        for lines, own in ((row.chosen, taste[:20]), (row.rejected, taste[20:])):
            told = [draw.choice(own if draw.random() < telling else taste) for _ in range(6)]
            at = draw.randrange(1, len(lines))
            said = lines[at].split(" ")
            sides.append([*lines[:at], " ".join([said[0], *told, *said[7:]]), *lines[at + 1 :]])
        told_row = replace(row, chosen=sides[0], rejected=sides[1])
        out.append(told_row.swapped() if draw.random() < flipped else told_row)
    return out


def writer_decides(rows: Sequence[Row]) -> list[Row]:
    """The large model wins 97 % of the contests with the small one."""
    draw = random.Random(0)
    return [
        replace(row, sources=("large", "small") if draw.random() < 0.97 else ("small", "large"))
        for row in rows
    ]


def two_tastes(rows: Sequence[Row]) -> list[Row]:
    """One judge prefers the longer answer in 80 %, the other the shorter."""
    halves = [
        [replace(row, by=name) for row in rows[at::2]] for at, name in enumerate(("ann", "bob"))
    ]
    leads = [
        ranked(half, lambda row: size(row.chosen) - size(row.rejected), 0.8) for half in halves
    ]
    return [
        row for one, other in zip(leads[0], leads[1], strict=True) for row in (one, other.swapped())
    ]


def both_ways(rows: Sequence[Row]) -> list[Row]:
    """Of one pair in twenty a copy with another case says the opposite."""
    copies = [
        replace(
            row.swapped(),
            chosen=[line.upper() for line in row.rejected],
            rejected=[*row.chosen[:-1], f"{row.chosen[-1]} Indeed."],
        )
        for row in rows[::20]
        if not row.held
    ]
    return [*rows, *copies]


def near_duplicates(rows: Sequence[Row]) -> list[Row]:
    """A fifth of the prompts to train on are reworded versions of others of them."""
    draw, world = random.Random(0), World(5)
    return [
        replace(row, prompt=reworded(rows[at - 1].prompt, draw, world))
        if at % 5 == 1 and not row.held
        else row
        for at, row in enumerate(rows)
    ]


def one_prompt(rows: Sequence[Row]) -> list[Row]:
    """Nine of a hundred examples have the same prompt."""
    return [
        replace(row, prompt=rows[0].prompt) if at % 11 == 0 and not row.held else row
        for at, row in enumerate(rows)
    ]


def one_opening(rows: Sequence[Row]) -> list[Row]:
    """Half of the prompts begin alike."""
    return [
        replace(row, prompt=f"Please write something {row.prompt}") if at % 2 else row
        for at, row in enumerate(rows)
    ]


def one_topic(rows: Sequence[Row]) -> list[Row]:
    """All prompts are made of the same fifty words."""
    draw, words = random.Random(0), World(7).words[:50]
    return [replace(row, prompt=" ".join(draw.choices(words, k=24))) for row in rows]


def leaking(rows: Sequence[Row]) -> list[Row]:
    """A fifth of the held-out prompts are reworded versions of prompts to train on."""
    draw, world = random.Random(0), World(5)
    return [
        replace(row, prompt=reworded(rows[at - 400].prompt, draw, world))
        if row.held and at % 5 == 0
        else row
        for at, row in enumerate(rows)
    ]


def template(rows: Sequence[Row], side: str) -> list[Row]:
    """One answer in twenty-five is always the same."""
    world = World(11)
    same = [world.sentence(10) for _ in range(6)]
    return [
        replace(row, **{side: same}) if at % 25 == 0 else row  # type: ignore[arg-type]
        for at, row in enumerate(rows)
    ]


def edited(rows: Sequence[Row]) -> list[Row]:
    """In one pair of seven the worse answer is the better one with a word changed."""
    out = []
    for at, row in enumerate(rows):
        if at % 7:
            out.append(row)
            continue
        first = row.chosen[0].split(" ")
        out.append(replace(row, rejected=[" ".join([*first[:-1], "changed."]), *row.chosen[1:]]))
    return out


def cut(rows: Sequence[Row]) -> list[Row]:
    """One better answer in seven stops in the middle."""

    world = World(3)

    def stop(lines: Lines) -> Lines:
        return [*lines, "Which is why " + " ".join(world.content(9))]

    return [
        replace(row, chosen=stop(row.chosen)) if at % 7 == 0 else row for at, row in enumerate(rows)
    ]


def very_long(rows: Sequence[Row]) -> list[Row]:
    """One answer in a hundred, on either side, is forty times as long."""
    world = World(3)
    out = list(rows)
    for at in range(0, len(out), 50):
        text = [world.sentence(12) for _ in range(300)]
        side = {"chosen": text} if at % 100 else {"rejected": text}
        out[at] = replace(out[at], **side)
    return out


def some_systems(rows: Sequence[Row]) -> list[Row]:
    """A fifth has a system prompt."""
    return [replace(row, system="Be kind.") if at % 5 == 0 else row for at, row in enumerate(rows)]


def mostly_up(rows: Sequence[Row]) -> Sides:
    """Thumbs of which one in twenty-five points down."""
    sides: Sides = ([], [])
    for side, made in zip(sides, thumbs(rows), strict=True):
        for at, example in enumerate(made):
            answer = Completion(example.completions[0].messages, label=at % 25 != 0)
            side.append(replace(example, completions=(answer,)))
    return sides


ROWS: dict[str, Callable[[Sequence[Row]], list[Row]]] = {
    "length": longer_wins,
    **{f"surface.{name}": mark_wins(name) for name in MARKS},
    "opening": opening_wins,
    "words": taste_in_words,
    "author": writer_decides,
    "judges": two_tastes,
    "contradictions": both_ways,
    "near-duplicates": near_duplicates,
    "largest-group": one_prompt,
    "openings": one_opening,
    "topics": one_topic,
    "leakage": leaking,
    "template-chosen": lambda rows: template(rows, "chosen"),
    "template-rejected": lambda rows: template(rows, "rejected"),
    "near-identical": edited,
    "truncated": cut,
    "length-outliers": very_long,
    "system-prompt": some_systems,
}


def _pairs(plant: Callable[[Sequence[Row]], list[Row]]) -> Callable[[int], Sides]:
    return lambda seed: examples(plant(clean(seed)))


PLANTED: dict[str, Callable[[int], Sides]] = {
    **{name: _pairs(plant) for name, plant in ROWS.items()},
    "thumbs": lambda seed: mostly_up(clean(seed)),
    "held-out-size": lambda seed: examples(clean(seed, held=40)),
}
