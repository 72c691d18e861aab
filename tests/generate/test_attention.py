"""Attention in parts equals attention over all keys at once."""

from __future__ import annotations

import pytest
import torch

from palate.generate.attention import part, together
from palate.model.tiles import Scores

HEADS, KEYS, WIDTH = 3, 9, 4


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    q = 30 * torch.randn(HEADS, 1, WIDTH, generator=draw)  # scores far apart
    k, v = (torch.randn(HEADS, KEYS, WIDTH, generator=draw) for _ in range(2))
    return q, k, v


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_parts_together_are_one_softmax(cap: float | None, with_sinks: bool) -> None:
    q, k, v = inputs()
    sinks = torch.tensor([4.0, -3.0, 60.0]) if with_sinks else None
    scores = Scores(0.5, softcap=cap)
    mask = torch.zeros(1, KEYS - 4)
    mask[0, 2] = float("-inf")
    parts = [
        part(q, k[:, :4], v[:, :4], None, scores),
        part(q, k[:, 4:], v[:, 4:], mask, scores),
    ]
    found = together([(o[:, 0][None], m[:, 0][None], z[:, 0][None]) for o, m, z in parts], sinks)

    plain = (q @ k.transpose(1, 2)).double() * 0.5
    if cap is not None:
        plain = cap * torch.tanh(plain / cap)
    plain[:, :, 6] = float("-inf")
    if sinks is not None:
        plain = torch.cat([plain, sinks.double().view(-1, 1, 1)], dim=-1)
    weights = plain.softmax(-1)[..., :KEYS]
    assert torch.allclose(found[0].double(), (weights @ v.double())[:, 0], atol=1e-5)


def test_a_mask_belongs_to_a_row_of_its_own_share() -> None:
    """Two prompts with two heads each: the mask of the second touches only its heads."""
    q, k, v = (torch.ones(4, 1, 2) for _ in range(3))
    mask = torch.tensor([[0.0], [float("-inf")]])
    _, most, _ = part(q, k, v, mask, Scores(1.0))
    assert most.flatten().tolist() == [2.0, 2.0, float("-inf"), float("-inf")]
