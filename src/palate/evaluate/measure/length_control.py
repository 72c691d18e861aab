"""The win rate as it would be if both answers were equally long.

Judges like long answers, and a model can learn nothing but that. AlpacaEval's remedy (Dubois et al.
2024, arXiv:2404.04475, equation 2) fits P(win) = σ(θ + φ·tanh(Δ/s)), with Δ the difference of the
lengths and s its standard deviation, and reports what is left at Δ = 0: σ(θ). The term for the
prompt's difficulty, which they fit over many models, cannot be told from θ with one model, and is
left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palate.evaluate.intervals import percentile_interval, wilson
from palate.evaluate.shares import ENOUGH

RESAMPLES = 1000
RIDGE = 0.01
"""Weight of φ² and of a half win and a half loss in all: finite where all were won."""
_STEPS = 50
_REACHED = 0.05


def controlled(
    wins_N: np.ndarray[Any, Any],
    longer_N: np.ndarray[Any, Any],
    group_N: np.ndarray[Any, Any],
    seed: int = 0,
) -> dict[str, Any] | None:
    """σ(θ) with a 95 % interval over prompts, and φ, positive where the longer answer wins.

    `wins_N` P(the model's answer is better) in [0, 1], `longer_N` how many words more it has,
    `group_N` its prompt's number. Where both answers are always equally long, `rate` is the plain
    win rate. None where fewer than one in twenty is as long as the base's or shorter, or as long
    or longer: what would be at equal length is then a guess. The interval is the bootstrap's, or
    Wilson's with one trial a prompt where fewer than five prompts were won or fewer than five lost.
    """
    if min((longer_N <= 0).mean(), (longer_N >= 0).mean()) < _REACHED:
        return None
    spread = float(longer_N.std())
    x_N = np.tanh(longer_N / spread) if spread else np.zeros_like(longer_N)
    theta, phi = _fit(wins_N, x_N, np.ones_like(x_N))
    groups = int(group_N.max()) + 1
    means_G = np.bincount(group_N, wins_N, groups) / np.bincount(group_N, minlength=groups)
    rate = float(_sigmoid(theta))
    interval = list(wilson(rate * groups, groups))
    if min((means_G > 0.5).sum(), (means_G < 0.5).sum()) >= ENOUGH:
        rng = np.random.default_rng(seed)
        weights_RG = rng.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
        draws = [
            _sigmoid(_fit(wins_N, x_N, weights_G[group_N].astype(float))[0])
            for weights_G in weights_RG
        ]
        interval = list(percentile_interval(np.array(draws), groups))
    return {"rate": rate, "interval": interval, "length_effect": float(phi)}


def _fit(
    wins_N: np.ndarray[Any, Any], x_N: np.ndarray[Any, Any], weight_N: np.ndarray[Any, Any]
) -> tuple[float, float]:
    """Weighted logistic regression with soft labels by Newton's method: (θ, φ)."""
    design_NK = np.stack([np.ones_like(x_N), x_N], axis=1)
    beta_K = np.zeros(2)
    for _ in range(_STEPS):
        p_N = _sigmoid(design_NK @ beta_K)
        # θ is drawn to 0 as by half a win and half a loss of weight RIDGE.
        prior = RIDGE * (0.5 - _sigmoid(beta_K[0]))
        gradient_K = design_NK.T @ (weight_N * (wins_N - p_N)) + [prior, -RIDGE * beta_K[1]]
        curve_N = weight_N * p_N * (1 - p_N)
        flat = _sigmoid(beta_K[0]) * (1 - _sigmoid(beta_K[0]))
        hessian_KK = design_NK.T @ (curve_N[:, None] * design_NK) + np.diag(
            [RIDGE * flat + 1e-9, RIDGE]
        )
        step_K = np.linalg.solve(hessian_KK, gradient_K)
        size = float(np.abs(step_K).max())
        beta_K = beta_K + step_K * min(1.0, 2.0 / max(size, 1e-12))
        if size < 1e-10:
            break
    return float(beta_K[0]), float(beta_K[1])


def _sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(value, -500, 500)))
