"""Keys and values in rows: what is written is read, through growth and moves."""

from __future__ import annotations

import torch

from palate.generate.pool import Pool
from palate.generate.schedule import Moves


def states(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(seed))


def test_what_is_written_is_read_after_growth_and_moves() -> None:
    pool = Pool(layers=2)
    pool.reserve(rows=2, length=3)
    first, second = states(2, 1), states(2, 2)
    rows, at = torch.tensor([0, 1]), torch.tensor([2, 0])
    for layer, sign in ((0, 1), (1, -1)):
        pool.write(layer, rows, at, sign * first, sign * second)
    pool.reserve(rows=5, length=7)
    third = states(1, 3)
    pool.write(1, torch.tensor([4]), torch.tensor([6]), third, third)
    pool.move(Moves([1, 4, 9], [0, 2, 1]))  # row 9 was never there
    keys, values = pool.read(0, rows=1, length=1)
    assert torch.equal(keys, first[1:].transpose(0, 1))
    assert torch.equal(values, second[1:].transpose(0, 1))
    keys, _ = pool.gather(1, torch.tensor([0, 2]), torch.tensor([0, 6]))
    assert torch.equal(keys, torch.cat([-first[1:], third]))


def test_rows_are_views_and_half_precision_is_widened_on_a_cpu() -> None:
    pool = Pool(layers=1)
    pool.move(Moves([1], [0]))  # before anything is written
    pool.reserve(rows=4, length=8)
    one = states(1, 1).bfloat16()
    pool.write(0, torch.tensor([3]), torch.tensor([5]), one, one)
    keys, _ = pool.read(0, rows=4, length=6)
    assert keys.shape == (12, 6, 4)
    assert keys.dtype == torch.float32
    assert torch.equal(keys[9:, 5], one[0].float())
    assert keys.data_ptr() == pool.buffers[0].data_ptr()
