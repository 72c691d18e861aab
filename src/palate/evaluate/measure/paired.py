"""A paired test without assumptions on how differences are spread."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

DRAWS = 10_000
EXACT = 12
"""Differences up to which every combination of signs is tried."""


def sign_flip(differences_G: np.ndarray[Any, Any], seed: int = 0) -> float:
    """Two-sided p of the mean difference under random signs.

    If neither side is better, each difference could as well have had the other sign: p is the
    share of sign combinations whose mean is as far from 0 or farther. All of them are tried where
    at most 12 differences are not 0; else 10,000 are drawn, the observed one counted among them.
    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    values_D = differences_G[differences_G != 0]
    if not len(values_D):
        return 1.0
    seen = abs(float(values_D.sum()))
    least = seen * (1 - 1e-12)
    if len(values_D) <= EXACT:
        signs_RD = np.array(list(product((-1.0, 1.0), repeat=len(values_D))))
        return float((np.abs(signs_RD @ values_D) >= least).mean())
    rng = np.random.default_rng(seed)
    as_far = 1
    for _ in range(DRAWS // 1000):
        signs_RD = rng.choice((-1.0, 1.0), size=(1000, len(values_D)))
        as_far += int((np.abs(signs_RD @ values_D) >= least).sum())
    return as_far / (DRAWS + 1)
