"""How far any number of annotators agree beyond chance: Krippendorff's α, with gaps in the data.

α = 1 − D_o / D_e, with D_o the disagreement that was observed within units and D_e the one to be
expected if the same values had been dealt to the units at random. 1 is perfect agreement, 0 what
chance gives, below 0 is less than chance (Krippendorff 2011, Computing Krippendorff's
Alpha-Reliability, University of Pennsylvania; Hayes and Krippendorff 2007, Communication Methods
and Measures 1:77-89).

Shape suffixes: P patterns (units with the same values), K values in use, R resamples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]

MOST_VALUES = 64
_NUMBERS_AT_ONCE = 4_000_000  # in one block of resamples: 32 MB


@dataclass(frozen=True, slots=True)
class Alpha:
    """α of the `units` that have two values or more, `values` in all; None where it has no value.

    `agreed` of the units have one value only, said by all who spoke.
    """

    alpha: float | None
    units: int
    values: int
    agreed: int


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Units that have the same values count as one pattern with a weight."""

    counts_PK: Floats
    weights_P: NDArray[np.int64]
    scale_K: Floats

    @property
    def units(self) -> int:
        return int(self.weights_P.sum())

    def coincidences(self) -> Floats:
        """Each pattern's pairs of values, (P, K, K): o_ck = n_c (n_k − [c = k]) / (m − 1)."""
        n_PK = self.counts_PK
        o_PKK = n_PK[:, :, None] * n_PK[:, None, :]
        diagonal = np.arange(n_PK.shape[1])
        o_PKK[:, diagonal, diagonal] -= n_PK
        o_PKK /= (n_PK.sum(axis=1) - 1)[:, None, None]
        return o_PKK


def alpha(units: Iterable[Sequence[Hashable]], metric: Metric = "nominal") -> Alpha:
    """α of the values that were given to each unit, one for each annotator who spoke.

    None and NaN are gaps. Which annotator gave a value makes no difference, and a unit with
    fewer than two values says nothing. Differences of values c and k are squared metrics δ²:

    - ``nominal``: 0 where they are equal, else 1;
    - ``ordinal``: (Σ_{g=c..k} n_g − (n_c + n_k)/2)², by how often the values between are used;
    - ``interval``: (c − k)².

    There is no α where all pairable values are equal, as D_e is 0 then. Raises `ValueError` for
    words on a scale of numbers, and for more than 64 different values.
    """
    patterns = _patterns(units, metric)
    if patterns is None:
        return Alpha(None, 0, 0, 0)
    weights_P = patterns.weights_P
    o_KK = np.tensordot(weights_P.astype(float), patterns.coincidences(), axes=1)
    found = float(_alphas(o_KK[None], patterns.scale_K, metric)[0])
    single_P = (patterns.counts_PK > 0).sum(axis=1) == 1
    return Alpha(
        None if math.isnan(found) else found,
        patterns.units,
        int(weights_P @ patterns.counts_PK.sum(axis=1)),
        int(weights_P[single_P].sum()),
    )


def alpha_draws(
    units: Iterable[Sequence[Hashable]],
    metric: Metric = "nominal",
    seed: int = 0,
    resamples: int = 10_000,
) -> Floats:
    """α of `resamples` bootstrap samples of the units that have two values or more: (R,).

    Units are drawn whole, with replacement. Units with the same values are exchangeable, so a
    sample is a multinomial draw over patterns: the time does not grow with the number of units.
    NaN where a sample holds one value only. Equal seeds give equal draws. Empty without units.
    """
    patterns = _patterns(units, metric)
    if patterns is None:
        return np.empty(0)
    o_PKK = patterns.coincidences()
    size = len(patterns.scale_K)
    chances_P = patterns.weights_P / patterns.units
    rng = np.random.default_rng(seed)
    block = max(1, _NUMBERS_AT_ONCE // (size * size + len(chances_P)))
    out_R = np.empty(resamples)
    for start in range(0, resamples, block):
        here = min(block, resamples - start)
        drawn_RP = rng.multinomial(patterns.units, chances_P, size=here).astype(float)
        o_RKK = (drawn_RP @ o_PKK.reshape(len(chances_P), -1)).reshape(here, size, size)
        out_R[start : start + here] = _alphas(o_RKK, patterns.scale_K, metric)
    return out_R


def _alphas(o_RKK: Floats, scale_K: Floats, metric: Metric) -> Floats:
    """α of each coincidence matrix; NaN where no disagreement can be expected."""
    n_RK = o_RKK.sum(axis=2)
    total_R = n_RK.sum(axis=1)
    if metric == "nominal":
        delta_RKK = 1 - np.eye(len(scale_K))[None]
    else:
        # The ordinal difference is one of mid-ranks: Σ_{g<k} n_g + n_k/2 less the same of c.
        at_RK = scale_K[None] if metric == "interval" else n_RK.cumsum(axis=1) - n_RK / 2
        delta_RKK = (at_RK[:, :, None] - at_RK[:, None, :]) ** 2
    observed_R = (o_RKK * delta_RKK).sum(axis=(1, 2))
    expected_R = (n_RK[:, :, None] * n_RK[:, None, :] * delta_RKK).sum(axis=(1, 2))
    out_R = np.full(len(o_RKK), np.nan)
    there_R = expected_R > 0
    ratio_R = observed_R[there_R] / expected_R[there_R]
    out_R[there_R] = 1 - (total_R[there_R] - 1) * ratio_R
    return out_R


def _patterns(units: Iterable[Sequence[Hashable]], metric: Metric) -> _Patterns | None:
    """The units that have two values or more, equal ones together; None if there are none."""
    spoken = ([v for v in unit if not _gap(v)] for unit in units)
    pairable = [unit for unit in spoken if len(unit) > 1]
    if not pairable:
        return None
    # In the order of their first use; dict.fromkeys keeps it, a set would not.
    used: list[Any] = list(dict.fromkeys(value for unit in pairable for value in unit))
    if metric != "nominal":
        words = [value for value in used if not isinstance(value, int | float)]
        if words:
            raise ValueError(f"an {metric} scale is one of numbers, and {words[0]!r} is none")
        used.sort()
    if len(used) > MOST_VALUES:
        raise ValueError(
            f"α over {len(used)} different values: put them into at most {MOST_VALUES} steps"
        )
    place = {value: at for at, value in enumerate(used)}
    found = Counter(tuple(sorted(place[value] for value in unit)) for unit in pairable)
    counts_PK = np.zeros((len(found), len(used)))
    for row, pattern in enumerate(found):
        np.add.at(counts_PK[row], list(pattern), 1)
    scale_K = np.arange(len(used), dtype=float) if metric == "nominal" else np.array(used, float)
    return _Patterns(counts_PK, np.array(list(found.values())), scale_K)


def _gap(value: Hashable) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
