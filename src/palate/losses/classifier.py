"""The classifier behind a guard: binary cross-entropy on a scalar head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import softplus

from palate.losses.batch import Context, Labelled, LossOutput
from palate.losses.dpo import LN2
from palate.losses.method import Counts, Method
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class Classifier:
    """Parameters of `classifier`."""

    unsafe: float | None = param(
        None, "w_1, weight of rows with a thumb down; default: from the data.", above=0.0
    )
    safe: float | None = param(
        None, "w_0, weight of rows with a thumb up; default: from the data.", above=0.0
    )
    smoothing: float = param(
        0.0, "ε: the labels are taken to be 1 − ε/2 and ε/2.", at_least=0.0, below=1.0
    )


def from_counts(params: Classifier, counts: Counts) -> Classifier:
    """Weights n/(2 n_class): both classes weigh the same, and a row weighs 1 on average.

    A weight that the recipe sets stays. Raises `ValueError` where one class has no row.
    """
    if not counts.desirable or not counts.undesirable:
        only, lacks = ("up", "down") if counts.desirable else ("down", "up")
        raise ValueError(
            f"all {counts.examples} rows to train on have a thumb {only}: a classifier learns from "
            f"both, so add rows with a thumb {lacks} (unsafe is down, safe is up)"
        )
    half = counts.examples / 2
    return replace(
        params,
        unsafe=params.unsafe or half / counts.undesirable,
        safe=params.safe or half / counts.desirable,
    )


def classifier(batch: Labelled, params: Classifier, context: Context) -> LossOutput:
    """−w_y [y log σ(s) + (1 − y) log σ(−s)], y softened towards ½.

    s is the head's value at the last token, the log-odds of *unsafe*: a guard looks for what must
    not pass, so a thumb down is y = 1, the positive class, and a thumb up y = 0.
    """
    score = batch.completion.reward_B
    unsafe = batch.desirable_B == 0
    half = params.smoothing / 2
    target = torch.where(unsafe, score.new_tensor(1 - half), score.new_tensor(half))
    weight = torch.where(
        unsafe,
        score.new_tensor(1.0 if params.unsafe is None else params.unsafe),
        score.new_tensor(1.0 if params.safe is None else params.safe),
    )
    loss_B = weight * (target * softplus(-score) + (1 - target) * softplus(score))
    s = score.detach()
    margin = torch.where(unsafe, s, -s)
    metrics = {
        "accuracy": (margin > 0).to(s) + 0.5 * (margin == 0).to(s),
        "margin": margin,
        "p_unsafe": torch.sigmoid(s),
    }
    return LossOutput(loss_B, metrics)


METHOD = Method(
    name="classifier",
    title="Safety classifier",
    formula="−w_y [y log σ(s) + (1 − y) log σ(−s)], y = 1 for a thumb down (unsafe)",
    paper="Cox 1958, J. R. Stat. Soc. B 20:215; label smoothing: Szegedy et al. 2016, arXiv "
    "1512.00567, §7",
    shape="labelled",
    params=Classifier,
    loss=classifier,
    reference=False,
    head="scalar",
    prompts=True,
    resolve=from_counts,
    initial_loss=LN2,
    initial=lambda params: LN2 if (params.unsafe, params.safe) == (1, 1) else None,
    when="A guard before and after generation: palate guard train, which calibrates it too.",
    defaults="w = n/(2 n_class), so that a rare class is learned; the head begins at 0, so the "
    "loss at ln 2 where the classes are even.",
    peers="transformers' single-label classification has two logits and no weights; with one "
    "logit the same model is half as many numbers.",
)
