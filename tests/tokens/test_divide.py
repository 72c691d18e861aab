"""Examples are shared out whole, evenly, and always in the same way."""

from __future__ import annotations

import random

import pytest

from palate.tokens.divide import divide
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch, unique_tokens


def example(prompt: list[int], *lengths: int) -> Rendered:
    branches = [
        Branch([*prompt, *([900 + n] * length)], [False] * len(prompt) + [True] * length)
        for n, length in enumerate(lengths)
    ]
    return Rendered("x", len(prompt), tuple(branches))


def loads(examples: list[Rendered], parts: list[list[int]]) -> list[int]:
    return [
        unique_tokens([b.ids for row in part for b in examples[row].branches]) for part in parts
    ]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_every_row_is_in_one_part(parts: int, share: bool) -> None:
    draw = random.Random(parts)
    examples = [
        example(
            [draw.randrange(3) for _ in range(draw.randrange(1, 30))], *(draw.randrange(1, 20),) * 2
        )
        for _ in range(20)
    ]
    rows = draw.sample(range(20), 11)
    found = divide(examples, rows, parts, share=share)
    assert len(found) == parts
    assert sorted(row for part in found for row in part) == sorted(rows)
    again = divide(examples, sorted(rows), parts, share=share)
    assert [sorted(part) for part in again] == [sorted(part) for part in found]


def test_long_examples_are_balanced_against_short_ones() -> None:
    """Distinct prompts of 10; answers 90, 20, 20, 20, 20: totals 100 and 4 of 30, so 100 | 120."""
    examples = [
        example([n] * 10, length // 2, length - length // 2)
        for n, length in enumerate((90, 20, 20, 20, 20))
    ]
    assert divide(examples, range(5), 2) == [[0], [1, 2, 3, 4]]


def test_what_two_parts_share_counts_in_both() -> None:
    """One prompt of 100, answers of 2·5: alone 110, each further one 10; two parts of 2: 120."""
    examples = [example([1] * 100, 5, 5) for _ in range(4)]
    found = divide(examples, range(4), 2)
    assert loads(examples, found) == [120, 120] or [len(part) for part in found] == [2, 2]


def test_the_longest_part_is_as_short_as_any_division_into_runs_allows() -> None:
    draw = random.Random(1)
    for _ in range(50):
        examples = [example([n] * 3, draw.randrange(1, 40), 1) for n in range(7)]
        sizes = [unique_tokens([b.ids for b in one.branches]) for one in examples]
        best = min(
            max(sum(sizes[:i]), sum(sizes[i:j]), sum(sizes[j:]))
            for i in range(8)
            for j in range(i, 8)
        )
        assert max(loads(examples, divide(examples, range(7), 3))) == best


def test_fewer_rows_than_parts() -> None:
    examples = [example([n] * 5, 3, 3) for n in range(2)]
    assert divide(examples, [1, 0], 4) == [[0], [1], [], []]
    assert divide(examples, [], 3) == [[], [], []]
