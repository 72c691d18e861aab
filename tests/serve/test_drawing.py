"""Rows of different settings in one draw: each as if it were alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from palate.generate.draw import Sampling, draw
from palate.generate.schedule import Answer, Resident
from palate.serve.drawing import draw_each
from palate.serve.job import NONE_YET
from palate.serve.text import TokenLogp


@dataclass
class Owner:
    sampling: Sampling
    top: int | None = None
    fresh: TokenLogp = field(default=NONE_YET)


def answer(owner: Owner, uniform: float) -> Answer[Any]:
    return Answer(owner, Resident((1,), 0, deque()), np.array([uniform]))


def test_each_row_is_drawn_by_its_own_settings() -> None:
    """Six settings, two of them equal; the rows of the equal ones are drawn together."""
    hows = [
        Sampling(temperature=1.0, top_k=0),
        Sampling(temperature=0.0),
        Sampling(temperature=1.0, top_k=0),
        Sampling(temperature=2.0, top_k=0),
        Sampling(temperature=1.0, top_k=3),
        Sampling(temperature=1.0, top_k=0, top_p=0.3),
    ]
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 3
    numbers = [0.9, 0.5, 0.1, 0.7, 0.99, 0.8]
    answers = [answer(Owner(how), u) for how, u in zip(hows, numbers, strict=True)]
    draw_each(answers, [logits])
    for row, how in enumerate(hows):
        alone = draw(logits[row : row + 1], torch.tensor([numbers[row]]).double(), how)
        assert answers[row].ids == alone.tolist()
        assert answers[row].key.fresh == TokenLogp(alone.item(), 0.0)  # nobody asked
    assert len({one.ids[0] for one in answers}) > 2


def test_log_probs_are_told_to_those_who_ask() -> None:
    """Of shares .1, .4, .2, .3 the two likeliest are tokens 1 and 3, whatever the temperature."""
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log().repeat(3, 1)
    how = Sampling(temperature=5.0, top_k=0)
    owners = [Owner(how, top=2), Owner(how), Owner(how, top=0)]
    # At temperature 5 the four are nearly equally likely: .55 falls on the third.
    answers = [answer(owner, 0.55) for owner in owners]
    draw_each(answers, [logits])
    first, second, third = (owner.fresh for owner in owners)
    assert (first.token, second.token, third.token) == (2, 2, 2)
    assert first.logp == pytest.approx(np.log(0.2), abs=1e-6)
    assert [token for token, _ in first.top] == [1, 3]
    assert [logp for _, logp in first.top] == pytest.approx(np.log([0.4, 0.3]), abs=1e-6)
    assert (second.logp, second.top) == (0.0, ())
    assert (third.logp, third.top) == (pytest.approx(np.log(0.2), abs=1e-6), ())
