"""What the numbers say: explanations and alarms, each with the numbers it saw.

One function for each thing that a practitioner watches; it returns a `Finding`, or None
when its numbers were not measured. Thresholds are named here and stated in the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palate.evaluate.runfolder import RunFiles, Table, interval, number, section
from palate.evaluate.wording import (
    bounds,
    compact,
    decimal,
    longer,
    percent,
    plural,
    points,
    signed_percent,
)

DISTINCT_FALL = 0.25  # relative
LENGTH_DRIFT = 0.20  # relative
FINISHED_FALL = 0.05  # points of a share
FAR = 10.0  # nats an answer
STEP0_EXACT = 1e-5  # nats: what fp32 leaves of a difference that should be 0
STEP0_ROUNDING = 1e-2  # nats: what bf16 may leave
OVERFIT_RISE = 0.05  # relative to the lowest held-out loss
_ROSE_AGAIN = "Held-out loss rose again"
_FALLS = " falls while the margin rises"

Level = Literal["alarm", "note", "good"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence or two about the run: how grave, what, and on what evidence."""

    level: Level
    title: str
    text: str


def findings(run: RunFiles) -> list[Finding]:
    """Everything that can be said about this run, alarms first."""
    comparison = section(run.results, "comparison")
    candidates = [
        diverged(run.train),
        rule_result(comparison),
        variety(comparison),
        endings(comparison),
        length(comparison),
        distance(comparison),
        rewards(run.train, degenerate(comparison)),
        step_zero(section(run.results, "step0")),
        heldout_loss(run.heldout),
        heldout_accuracy(section(run.results, "heldout"), run.unit),
    ]
    order = {"alarm": 0, "note": 1, "good": 2}
    return sorted((f for f in candidates if f is not None), key=lambda f: order[f.level])


def diverged(train: Sequence[Table]) -> Finding | None:
    """Alarm if a loss or a gradient norm was not a finite number."""
    for line in train:
        for key in ("loss", "grad_norm"):
            value = line.get(key)
            if isinstance(value, float) and not math.isfinite(value):
                at = compact(number(line, "step"))
                text = (
                    f"{key} was {value} at step {at}. Lower optim.lr, and look at the data there."
                )
                return Finding("alarm", "Training diverged", text)
    return None


def rule_result(comparison: Table) -> Finding | None:
    """Whether the share that follows the rule moved by more than chance would."""
    found = interval(comparison, "difference_interval")
    if found is None:
        return None
    seen = f"{points(number(comparison, 'difference'))}, 95 % interval {bounds(found)}"
    if found[0] > 0:
        return Finding("good", "The gain is larger than chance", f"{seen}: it lies above 0.")
    if found[1] < 0:
        return Finding("alarm", "The model follows the rule less often than before", f"{seen}.")
    text = f"{seen}: it contains 0. More prompts (evaluate.samples) would narrow it."
    return Finding("note", "No clear difference by the rule", text)


def variety(comparison: Table) -> Finding | None:
    """Do the answers still differ from each other? Alarm at a fall of distinct-2 by a quarter."""
    old = number(comparison, "before", "distinct_2")
    new = number(comparison, "after", "distinct_2")
    if not old or new is None:
        return None
    change = new / old - 1
    text = f"distinct-2 went from {decimal(old)} to {decimal(new)} ({signed_percent(change)}); the "
    text += f"alarm is at a fall of {percent(DISTINCT_FALL)}."
    if change >= -DISTINCT_FALL:
        return Finding("good", "Answers have kept their variety", text)
    text += " Read the samples: do they copy one pattern? Fewer steps or a larger \u03b2 keep more."
    return Finding("alarm", "Answers have become uniform", text)


def endings(comparison: Table) -> Finding | None:
    """Does the model still end its answers itself? Alarm at a fall by five points."""
    old, new = number(comparison, "before", "finished"), number(comparison, "after", "finished")
    if old is None or new is None:
        return None
    text = f"the model ended {percent(old)} of its answers itself before, {percent(new)} after."
    if new >= old - FINISHED_FALL:
        return Finding("good", "No fewer answers come to an end", text)
    text += " It is forgetting how to stop: check that the end of the turn is trained on."
    return Finding("alarm", "Fewer answers come to an end", text)


def length(comparison: Table) -> Finding | None:
    """Has the mean length moved? Alarm at a drift of a fifth, up or down."""
    drift = number(comparison, "tokens_change")
    if drift is None:
        return None
    old, new = number(comparison, "before", "tokens"), number(comparison, "after", "tokens")
    text = (
        f"{decimal(old, 1)} tokens on average before, {decimal(new, 1)} after ({longer(drift)}); "
    )
    text += f"the alarm is at {percent(LENGTH_DRIFT)}."
    if abs(drift) <= LENGTH_DRIFT:
        return Finding("good", "Answer length has held", text)
    text += " If the rule is about length, this is the lesson; if not, the preferences may reward"
    text += " length by accident."
    return Finding("alarm", "Answer length has drifted", text)


def distance(comparison: Table) -> Finding | None:
    """How far answers have moved from the reference's; a note above 10 nats, else nothing.

    A yardstick stands beside it: the best of n answers moves ln n - (n - 1)/n nats at most.
    """
    kl = number(comparison, "kl")
    if kl is None or kl <= FAR:
        return None
    text = f"{decimal(kl, 1)} nats an answer (KL); the note is at {decimal(FAR, 0)}. The best of a "
    text += "thousand of the reference's answers would be 5.9 nats away at most. What nobody asked "
    text += "for may have moved as well: read the samples. Fewer steps or a lower optim.lr stay "
    text += "nearer, and so does a larger \u03b2, where the method has one."
    return Finding("note", "Answers have moved far from the reference's", text)


def degenerate(comparison: Table) -> bool | None:
    """Did the samples change for the worse? None if there are none.

    A length that drifted counts only without a clear gain by the rule: shorter answers may be
    what was asked for.
    """
    found = [check(comparison) for check in (variety, endings)]
    gain = rule_result(comparison)
    if gain is None or gain.level != "good":
        found.append(length(comparison))
    levels = [finding.level for finding in found if finding is not None]
    return "alarm" in levels if levels else None


@dataclass(frozen=True, slots=True)
class _Liked:
    """The answers that a method is to make likelier: what it logs of them, and their names.

    `total` divided by `count` is their mean reward; without a count it is the mean itself.
    """

    total: str
    count: str | None
    liked: str
    title: str
    said: str
    seen: str
    units: str

    def logged(self, line: Table) -> bool:
        """Whether a line of metrics has all of it."""
        names = [self.total, "margin", *([self.count] if self.count else [])]
        return all(number(line, name) is not None for name in names)

    def reward(self, lines: Sequence[Table]) -> float | None:
        """Their mean reward; None where there were none."""
        of = 1.0 if self.count is None else _mean(lines, self.count)
        return _mean(lines, self.total) / of if of else None


_PAIRS = _Liked(
    "chosen_reward",
    None,
    "the chosen answers",
    "Chosen answers",
    "chosen reward",
    "the difference of the two",
    "pairs",
)
_THUMBS = _Liked(
    "up_reward",
    "up",
    "the answers with a thumb up",
    "Answers with a thumb up",
    "reward of answers with a thumb up",
    "how far answers are from the drift of all",
    "answers",
)


def rewards(train: Sequence[Table], worse: bool | None) -> Finding | None:
    """Chosen answers becoming less likely while the margin grows: common, unless samples rot.

    Or answers with a thumb up, of a method that learns from single answers. `worse` is what
    `degenerate` says of the samples. Quarters of the run are compared, because
    single steps jump; runs of fewer than four steps are not judged, nor those in which a quarter
    has no such answer.
    """
    kind = next((one for one in (_PAIRS, _THUMBS) if any(map(one.logged, train))), None)
    lines = [] if kind is None else [line for line in train if kind.logged(line)]
    if kind is None or len(lines) < 4:
        return None
    part = max(1, len(lines) // 4)
    first, last = kind.reward(lines[:part]), kind.reward(lines[-part:])
    if first is None or last is None:
        return None
    margin = [_mean(lines[:part], "margin"), _mean(lines[-part:], "margin")]
    seen = (
        f"from the first to the last quarter of the run the {kind.said} went from "
        f"{decimal(first)} to {decimal(last)}, the margin from {decimal(margin[0])} to "
        f"{decimal(margin[1])}"
    )
    if margin[1] <= margin[0]:
        text = f"{seen}. Train longer, or raise optim.lr; or the {kind.units} differ in nothing "
        text += "learnable."
        return Finding("note", "The margin has not grown", text)
    if last >= first:
        text = f"{seen}. The model moves towards {kind.liked}, not only away from the others."
        return Finding("good", f"{kind.title} became likelier", text)
    if worse:
        text = f"{seen}, and the samples changed for the worse (see above). Fewer steps, a larger"
        text += " \u03b2, or an added likelihood term would hold the model back."
        return Finding("alarm", f"{kind.title} fall, and the samples with them", text)
    text = f"{seen}. This is common: the loss sees only {kind.seen}. "
    if worse is None:
        text += "Whether the answers suffer was not measured."
    else:
        text += "The sampled answers show no sign of damage."
    return Finding("note", f"The {kind.said}{_FALLS}", text)


def displaced(train: Sequence[Table]) -> bool:
    """Whether that is what `rewards` says, of a run whose samples nobody has seen."""
    found = rewards(train, None)
    return found is not None and found.title.endswith(_FALLS)


def step_zero(step0: Table) -> Finding | None:
    """The first loss against its known value: policy and reference must begin as one."""
    loss, expected = number(step0, "loss"), number(step0, "expected")
    if loss is None or expected is None:
        return None
    off = abs(loss - expected)
    seen = f"{loss:.7f} before the first step, {expected:.7f} expected"
    largest = number(step0, "max_abs_h")
    if largest is not None:
        mean = compact(number(step0, "mean_abs_h"))
        seen += f"; log-ratio difference of policy and reference: mean {mean}, largest"
        seen += f" {compact(largest)} nats"
    if off <= STEP0_EXACT:
        return Finding("good", "The loss starts where it must", f"{seen}.")
    if off <= STEP0_ROUNDING:
        text = f"{seen}. So small a difference is the rounding of bf16."
        return Finding("note", "The loss starts near where it must", text)
    text = f"{seen}. Policy and reference are not the same model, or their masks differ."
    return Finding("alarm", "The loss starts in the wrong place", text)


def rose_again(heldout: Sequence[Table]) -> bool:
    """Whether that is what `heldout_loss` says."""
    found = heldout_loss(heldout)
    return found is not None and found.title == _ROSE_AGAIN


def heldout_loss(heldout: Sequence[Table]) -> Finding | None:
    """Did the loss on held-out examples fall, and did it rise again after its lowest point?"""
    losses = [
        (step, loss)
        for line in heldout
        if (step := number(line, "step")) is not None and (loss := number(line, "loss")) is not None
    ]
    if len(losses) < 2:
        return None
    best_step, best = min(losses, key=lambda pair: pair[1])
    (first_step, first), (last_step, last) = losses[0], losses[-1]
    if last > best * (1 + OVERFIT_RISE):
        text = f"it was lowest, {best:.3f}, at step {best_step:g} and ended at {last:.3f} (step "
        text += (
            f"{last_step:g}). Stopping there may do as well; judge by the samples, not the loss."
        )
        return Finding("note", _ROSE_AGAIN, text)
    seen = f"from {first:.3f} at step {first_step:g} to {last:.3f} at step {last_step:g}"
    if last < first:
        return Finding("good", "Held-out loss fell", f"{seen}.")
    return Finding("note", "Held-out loss has not fallen", f"{seen}.")


def heldout_accuracy(heldout: Table, unit: str = "pair") -> Finding | None:
    """Is the accuracy on held-out pairs (or answers with thumbs) better than a coin?"""
    accuracy, found = number(heldout, "accuracy"), interval(heldout, "accuracy_interval")
    if accuracy is None or found is None:
        return None
    of = plural(number(heldout, "n") or 0, f"held-out {unit}")
    seen = f"{percent(accuracy)} of {of}, 95 % interval {bounds(found)}"
    if found[0] > 0.5:
        title = "It prefers the chosen answers on pairs it never saw"
        if unit != "pair":
            title = "It tells good answers from bad ones that it never saw"
        return Finding("good", title, f"{seen}: above a coin's 50.")
    title = "Held-out accuracy cannot be told from a coin's"
    return Finding("note", title, f"{seen} reaches down to 50. More held-out {unit}s would tell.")


def _mean(lines: Sequence[Table], key: str) -> float:
    values = [value for line in lines if (value := number(line, key)) is not None]
    return sum(values) / len(values)
