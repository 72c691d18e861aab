"""8-bit moments: the levels by their definition, and what coding may and may not change."""

from __future__ import annotations

import pytest
import torch

from palate.train.moments import BLOCK, decode, encode, levels

CPU = torch.device("cpu")


def test_levels_by_hand() -> None:
    """Decade 0 has 2^0 part on a side: the midpoint of (0.1, 1] is 0.55, times 1e-6. Decade 6
    has 64: the first midpoint is 0.1 + 0.9/128, the last 1 - 0.9/128. Unsigned, twice as many.
    """
    signed, unsigned = levels(True, CPU), levels(False, CPU)
    assert len(signed) == len(unsigned) == 256
    assert len(signed.unique()) == len(unsigned.unique()) == 256
    positive = signed[signed > 0]
    assert positive[0] == pytest.approx(0.55e-6)
    assert positive[1:3].tolist() == pytest.approx([0.325e-5, 0.775e-5])
    assert positive[-2:].tolist() == pytest.approx([1 - 0.9 / 128, 1.0])
    assert torch.equal(signed[:127], -positive[:-1].flip(0)), "symmetric, but for 1"
    assert unsigned[:3].tolist() == pytest.approx([0.0, 0.325e-6, 0.775e-6])
    assert unsigned[-2].item() == pytest.approx(1 - 0.9 / 256)


@pytest.mark.parametrize("signed", [True, False])
def test_the_nearest_level_is_taken(signed: bool) -> None:
    """Against all 256 distances, on values of every decade, with 1 to set the scale to 1."""
    draw = torch.Generator().manual_seed(0)
    values = 10.0 ** (-9 * torch.rand(40 * BLOCK, generator=draw))
    if signed:
        values *= torch.where(torch.rand(len(values), generator=draw) < 0.5, 1.0, -1.0)
    table = levels(signed, CPU)
    boundaries = (table[1:] + table[:-1]) / 2
    values[1 : 1 + len(boundaries)] = boundaries
    values[::BLOCK] = 1.0
    codes, scales = encode(values, signed=signed)
    assert torch.equal(scales, torch.ones(40))
    found = decode(codes, scales, signed=signed)
    distances = (values.double()[:, None] - table.double()).abs()
    nearest = distances.min(dim=1).values
    if not signed:  # never down to 0
        nearest = torch.where(distances.argmin(dim=1) == 0, distances[:, 1], nearest)
    error = (values.double() - found.double()).abs()
    assert (error <= nearest + 2e-7 * values.double().abs()).all(), "but for fp32's own rounding"


def test_blocks_do_not_disturb_each_other_and_the_last_may_be_short() -> None:
    """An outlier of 1e6 leaves the neighbouring blocks as precise as they were."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(3 * BLOCK + 5, generator=draw)
    values[BLOCK + 7] = 1e6
    codes, scales = encode(values, signed=True)
    assert (len(codes), len(scales)) == (3 * BLOCK + 5, 4)
    error = (decode(codes, scales, signed=True) - values).abs()
    assert error[:BLOCK].max() <= 0.02 * scales[0]
    assert error[2 * BLOCK :].max() <= 0.02 * scales[2:].max()
    assert error[BLOCK : 2 * BLOCK].max() > 0.1


def test_zeros_stay_zeros_and_a_small_second_moment_does_not_become_one() -> None:
    for signed in (True, False):
        codes, scales = encode(torch.zeros(BLOCK), signed=signed)
        assert not decode(codes, scales, signed=signed).any()
    tiny = torch.full((BLOCK,), 1e-12)
    tiny[0] = 1.0
    tiny[1] = 0.0
    found = decode(*encode(tiny, signed=False), signed=False)
    assert found[1] == 0.0
    assert (found[2:] > 0).all()
