from __future__ import annotations

import torch

from palate.losses.batch import Demonstrations, Pairs, Side, concatenate, detach


def side(values: list[float], ratio: bool = True) -> Side:
    t = torch.tensor(values)
    return Side(t, t * 10 if ratio else None, t * 100)


def test_concatenate_puts_examples_at_their_places() -> None:
    # micro-batches hold the step's examples 2, 0 and 1
    joined = concatenate(
        [Pairs(side([2.0, 0.0]), side([-2.0, -0.0])), Pairs(side([1.0]), side([-1.0]))],
        torch.tensor([2, 0, 1]),
    )
    assert joined.chosen.logp_B.tolist() == [0.0, 1.0, 2.0]
    assert joined.rejected.length_B.tolist() == [0.0, -100.0, -200.0]
    assert joined.size == 3


def test_concatenate_without_a_reference() -> None:
    joined = concatenate([Demonstrations(side([1.0], False))], torch.tensor([0]))
    assert joined.completion.ratio_B is None


def test_detach_cuts_every_gradient() -> None:
    leaf = torch.ones(2, requires_grad=True)
    cut = detach(Pairs(Side(leaf * 2, leaf * 3, leaf), Side(leaf, None, leaf)))
    assert not cut.chosen.logp_B.requires_grad
    assert cut.rejected.ratio_B is None
