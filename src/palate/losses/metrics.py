"""What methods report, per example and without gradient."""

from __future__ import annotations

from torch import Tensor

from palate.losses.batch import Pairs


def reward_metrics(pairs: Pairs, beta: float | Tensor) -> dict[str, Tensor]:
    """What every paired method with a reference reports, per pair.

    Implicit rewards βa and βb (DPO paper, §4, up to a prompt constant), their margin,
    whether the chosen one is ahead (½ for a tie), |h| = |a − b| in nats (0 at policy =
    reference, so what it is at the first step is rounding), and the summed log-probs.
    """
    a, b = pairs.chosen.log_ratio_B.detach(), pairs.rejected.log_ratio_B.detach()
    return {**comparison(pairs, beta * a, beta * b), "abs_h": (a - b).abs()}


def comparison(pairs: Pairs, chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """The rewards by which a paired method tells the answers apart, and the log-probs."""
    w, l = chosen.detach(), rejected.detach()  # noqa: E741 the papers' letters
    ahead = (w > l).to(w.dtype) + 0.5 * (w == l).to(w.dtype)
    return {
        "margin": w - l,
        "accuracy": ahead,
        "chosen_reward": w,
        "rejected_reward": l,
        "chosen_logp": pairs.chosen.logp_B.detach(),
        "rejected_logp": pairs.rejected.logp_B.detach(),
    }
