"""A run in one line, and in a second: what a person wants to know first."""

from __future__ import annotations

from palate.evaluate.runfolder import RunFiles, interval, number, section
from palate.evaluate.wording import bounds, decimal, longer, percent, plural, points


def headline(run: RunFiles) -> str:
    """The result in one line: by the rule if there is one, else by held-out pairs, else loss."""
    comparison = section(run.results, "comparison")
    old, new = number(comparison, "before", "share"), number(comparison, "after", "share")
    if old is not None and new is not None:
        return f"Follows the rule: {percent(old)} \u2192 {percent(new)}"
    accuracy = number(run.results, "heldout", "accuracy")
    if accuracy is not None:
        of = plural(number(run.results, "heldout", "n") or 0, f"held-out {run.unit}")
        if run.unit == "answer":
            return f"Tells good from bad in {percent(accuracy)} of {of}"
        return f"Prefers the chosen answer in {percent(accuracy)} of {of}"
    for lines, name in ((run.heldout, "Held-out loss"), (run.train, "Training loss")):
        losses = [loss for line in lines if (loss := number(line, "loss")) is not None]
        if losses:
            return f"{name}: {decimal(losses[0])} \u2192 {decimal(losses[-1])}"
    return "Nothing has been measured yet"


def details(run: RunFiles) -> str:
    """The second line: the difference with its interval, length, and drift."""
    comparison = section(run.results, "comparison")
    said: list[str] = []
    found = interval(comparison, "difference_interval")
    if found is not None:
        of = plural(number(comparison, "prompts") or 0, "held-out prompt")
        said.append(f"{points(number(comparison, 'difference'))} {bounds(found)} on {of}")
    elif (accuracy := interval(run.results, "heldout", "accuracy_interval")) is not None:
        said.append(f"95 % interval {bounds(accuracy)}")
    change = number(comparison, "tokens_change")
    if change is not None:
        said.append(f"answers {longer(change)}")
    kl = number(comparison, "kl")
    if kl is not None:
        said.append(f"KL {decimal(kl, 1)} nats per answer")
    return "; ".join(said)
