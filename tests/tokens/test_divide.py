"""Examples are shared out whole, evenly, and always in the same way."""

from __future__ import annotations

import random

import pytest

from palate.tokens.divide import Price, divide
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch, build_forest, unique_tokens


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
    found = divide(examples, range(5), 2)
    assert sorted(loads(examples, found)) == [100, 120]


def test_what_two_parts_share_counts_in_both() -> None:
    """One prompt of 100, answers of 2·5: alone 110, each further one 10; two parts of 2: 120."""
    examples = [example([1] * 100, 5, 5) for _ in range(4)]
    found = divide(examples, range(4), 2)
    assert loads(examples, found) == [120, 120] or [len(part) for part in found] == [2, 2]


def test_the_dearest_part_is_no_dearer_than_in_any_division_into_runs() -> None:
    draw = random.Random(1)
    for _ in range(50):
        examples = [example([n] * 3, draw.randrange(1, 40), 1) for n in range(7)]
        sizes = [unique_tokens([b.ids for b in one.branches]) for one in examples]
        best = min(
            max(sum(sizes[:i]), sum(sizes[i:j]), sum(sizes[j:]))
            for i in range(8)
            for j in range(i, 8)
        )
        assert max(loads(examples, divide(examples, range(7), 3))) <= best


def test_rows_that_are_no_neighbours_are_put_together_where_that_is_even() -> None:
    """Totals 60, 10, 50, 20, 40: runs give 70 | 110 at best, and 60 + 20 + 10 = 50 + 40."""
    examples = [example([n] * 5, total - 10, 5) for n, total in enumerate((60, 10, 50, 20, 40))]
    examples[1] = example([1] * 5, 3, 2)
    found = divide(examples, range(5), 2)
    assert loads(examples, found) == [90, 90]


def test_attention_counts_with_its_square() -> None:
    """Rows of 60, 40, 40 and 10 tokens: 70 | 80 by tokens, the first with the last.

    Their pairs are 1830, 820, 820 and 55: the long one is alone, against 1695.
    """
    examples = [example([n], length - 1) for n, length in enumerate((60, 40, 40, 10))]
    by_tokens, by_pairs = (
        sorted(map(sorted, divide(examples, range(4), 2, price=price)))
        for price in (Price(token=1), Price(token=0, pair=1))
    )
    assert by_tokens == [[0, 3], [1, 2]]
    assert by_pairs == [[0], [1, 2, 3]]


def test_prices_by_hand() -> None:
    """Prompt 3, answers of 2 and 4: 9 tokens, 6 scored; 6 + (4 + 5) + (4 + 5 + 6 + 7) = 37 pairs.

    Padded to 7 twice: 14 tokens and 2·28 pairs.
    """
    one = example([1, 2, 3], 2, 4)
    assert Price(1, 0, 0).of(one, share=True) == 9
    assert Price(0, 1, 0).of(one, share=True) == 6
    assert Price(0, 0, 1).of(one, share=True) == 37
    assert Price(1, 0, 0).of(one, share=False) == 14
    assert Price(0, 0, 1).of(one, share=False) == 56


def heavy_tailed(count: int, seed: int) -> list[Rendered]:
    """Pairs as people have them: lengths log-normal, every third with a neighbour's prompt."""
    draw = random.Random(seed)
    examples: list[Rendered] = []
    for n in range(count):
        prompt = [n] * min(600, round(draw.lognormvariate(4.0, 1.0)) + 1)
        if n % 3 == 2:
            prompt = list(examples[-1].prompt_ids)
        lengths = (min(500, round(draw.lognormvariate(5.0, 0.7)) + 1) for _ in range(2))
        answers = [[draw.randrange(1000, 9000) for _ in range(length)] for length in lengths]
        branches = (Branch([*prompt, *a], [False] * len(prompt) + [True] * len(a)) for a in answers)
        examples.append(Rendered(str(n), len(prompt), tuple(branches)))
    return examples


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("size", [32, 64])
def test_heavy_tails_are_balanced(size: int, parts: int) -> None:
    """At the prices of a model of 135M: 2·106M a token, 2·28M a scored one, 4·30·576 a pair."""
    price = Price(212_000_000, 57_000_000, 69_000)
    above = []
    for seed in range(10):
        examples = heavy_tailed(size, seed)
        found = divide(examples, range(size), parts, price=price)
        costs = [sum_of(price, [examples[row] for row in part]) for part in found]
        above.append(max(costs) * parts / sum(costs) - 1)
    assert sum(above) / len(above) < 0.05, above


def sum_of(price: Price, examples: list[Rendered]) -> int:
    """By the forest that is really built."""
    branches = [branch for one in examples for branch in one.branches]
    forest = build_forest(branches, share=True)
    pairs = sum(s.length * s.position + s.length * (s.length + 1) // 2 for s in forest.segments)
    scored = sum(sum(branch.mask) for branch in branches)
    return price.token * forest.unique_tokens + price.scored * scored + price.pair * pairs


def test_fewer_rows_than_parts() -> None:
    examples = [example([n] * 5, 3, 3) for n in range(2)]
    assert sorted(divide(examples, [1, 0], 4)) == [[], [], [0], [1]]
    assert divide(examples, [], 3) == [[], [], []]
