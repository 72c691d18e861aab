"""IPO with Cauchy's loss: pairs far from the target margin pull less than the square has them.

IPO (arXiv 2310.12036) draws the margin h of every pair to 1/(2τ) by (h − 1/(2τ))². A pair that is
far off, because its label is wrong or its answers are odd, pulls hardest of all. Cauchy's loss
c² log(1 + (r/c)²) is the square while |r| is well below c and grows as a logarithm beyond: its
pull is largest at |r| = c and falls from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class CauchyIPO:
    """Parameters of `cauchy-ipo`: each with its default, what it is, and its range."""

    tau: float = param(0.1, "Margins are drawn to 1/(2τ) nats, as in ipo.", above=0.0)
    width: float = param(5.0, "c: distance from the target with the largest pull.", above=0.0)


def cauchy_ipo(pairs: Pairs, params: CauchyIPO, context: Context) -> LossOutput:
    """c² log(1 + (r/c)²), with r = a − b − 1/(2τ).

    a and b are the summed log-ratios of the chosen and the rejected answers, in nats, shape [B].
    One value for each pair comes back: the step takes the mean, over all its micro-batches.
    """
    h_B = pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B
    off_B = (h_B - 1 / (2 * params.tau)) / params.width
    return LossOutput(params.width**2 * (off_B**2).log1p(), reward_metrics(pairs, params.tau))


METHOD = Method(
    name="cauchy-ipo",
    title="IPO with Cauchy's loss",
    formula="c² log(1 + (r/c)²), r = a − b − 1/(2τ)",
    paper="ipo: Azar et al. 2023, arXiv 2310.12036; the loss: textbooks on robust regression",
    shape="pair",
    params=CauchyIPO,
    loss=cauchy_ipo,
    initial_loss=17.328679513998633,  # r = −5 and c = 5: 25 ln 2
    when="The squares of ipo follow a few odd pairs too much.",
    defaults="τ = 0.1 as for ipo; c = 5 is the distance that pairs begin at.",
)
