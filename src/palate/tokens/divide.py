"""How the examples of a step are shared out among processes that train together.

A pure function of the rows, so that every rank finds the same division by itself. Rows
stay in token order: those that share a beginning stay together where the balance allows.
"""

from __future__ import annotations

from collections.abc import Sequence

from palate.tokens.render import Rendered
from palate.tokens.sampler import cost


def divide(
    examples: Sequence[Rendered], rows: Sequence[int], parts: int, *, share: bool = True
) -> list[list[int]]:
    """`rows` as `parts` runs of neighbours in token order, the longest as short as can be.

    Length is unique tokens when `share`, all tokens otherwise; a beginning that two runs
    share counts in both. With fewer rows than parts the last runs are empty.
    """
    if parts == 1:
        return [list(rows)]
    order = sorted(rows, key=lambda i: (tuple(examples[i].branches[0].ids), i))
    if not order:
        return [[] for _ in range(parts)]
    first = [cost(examples[row], (), share=share) for row in order]
    heads = [(), *(examples[row].branches[0].ids for row in order[:-1])]
    after = [cost(examples[row], head, share=share) for row, head in zip(order, heads, strict=True)]
    low, high = max(first), sum(first)
    while low < high:
        middle = (low + high) // 2
        if len(_runs(first, after, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    sizes = _runs(first, after, low)
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    runs = [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return [*runs, *([] for _ in range(parts - len(runs)))]


def _runs(first: Sequence[int], after: Sequence[int], limit: int) -> list[int]:
    """Rows of each run when every run takes as many as fit below `limit`."""
    sizes: list[int] = []
    used = limit
    for alone, fresh in zip(first, after, strict=True):
        if sizes and used + fresh <= limit:
            sizes[-1] += 1
            used += fresh
        else:
            sizes.append(1)
            used = alone
    return sizes
