"""The padded path's cache."""

from __future__ import annotations

import torch

from palate.generate.cache import RoomyCache, RoomyLayer


def _states(length: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, length, 4, generator=torch.Generator().manual_seed(seed))


def test_the_cache_gives_back_all_it_was_given() -> None:
    """Across the first room of 64 positions, and past it."""
    layer = RoomyLayer()
    parts = [_states(length, seed=k) for k, length in enumerate((5, 1, 1, 70, 1, 64, 3))]
    for count, part in enumerate(parts, 1):
        keys, values = layer.update(part, -part)
        expected = torch.cat(parts[:count], dim=2)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)
        assert layer.get_seq_length() == expected.shape[2]


def test_the_cache_has_room_so_that_a_step_copies_nothing() -> None:
    layer = RoomyLayer()
    layer.update(_states(5), _states(5))
    place = layer.keys.data_ptr()
    for _ in range(64):
        layer.update(_states(1), _states(1))
    assert layer.keys.data_ptr() == place
    layer.update(_states(1), _states(1))
    assert layer.keys.data_ptr() != place


def test_rows_of_the_cache_are_kept_dropped_and_repeated() -> None:
    cache = RoomyCache()
    first, second = _states(4, seed=1), _states(4, seed=2)
    cache.update(first, -first, 0)
    cache.update(second, -second, 1)
    cache.rows(torch.tensor([1, 1, 0]))
    more = _states(1, batch=3, seed=3)
    for layer, states in enumerate((first, second)):
        keys, values = cache.update(more, -more, layer)
        expected = torch.cat([states[[1, 1, 0]], more], dim=2)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)
