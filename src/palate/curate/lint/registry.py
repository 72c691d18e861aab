"""The checks in the order in which they are told, and `lint`, which runs them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec

from palate.curate.lint import (
    authors,
    balance,
    contradictions,
    disagreement,
    diversity,
    judges,
    leakage,
    length,
    near_identical,
    on_policy,
    opening,
    outliers,
    size,
    surface,
    systems,
    templates,
    truncated,
    wording,
)
from palate.curate.lint.findings import Finding, Number, Report
from palate.curate.lint.target import TargetModel
from palate.curate.lint.view import TokenCount, View
from palate.records import Example

Check = Callable[[View], Iterator[Number | Finding]]

CHECKS: dict[str, Check] = {
    "length": length.check,
    "surface": surface.check,
    "opening": opening.check,
    "words": wording.check,
    "author": authors.check,
    "judges": judges.check,
    "contradictions": contradictions.check,
    "label-noise": disagreement.check,
    "diversity": diversity.check,
    "leakage": leakage.check,
    "templates": templates.check,
    "near-identical": near_identical.check,
    "truncated": truncated.check,
    "length-outliers": outliers.check,
    "thumbs": balance.check,
    "system-prompt": systems.check,
    "held-out-size": size.check,
    "on-policy": on_policy.check,
}


def lint(
    train: Sequence[Example],
    heldout: Sequence[Example] | None = None,
    *,
    seed: int = 0,
    rejected: Mapping[str, int] | None = None,
    tokens: TokenCount | None = None,
    model: TargetModel | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Report:
    """Run every check on the examples of a snapshot; equal input gives an equal report.

    `heldout` is None for data that were not split. `rejected` counts what was dropped before, by
    reason; `tokens` counts the tokens of a text; `model` is the one that is to be trained, for the
    share of answers that are its own. `progress` is told each check's name when it is done.

    Of more than 100,000 examples that many are read, whole prompts drawn by the seed, and of more
    than 20,000 contests that many are fitted on. Raises `ValueError` without scikit-learn.
    """
    if find_spec("sklearn") is None:
        raise ValueError('lint needs scikit-learn: pip install "palate[data]"')
    view = View(train, heldout, seed=seed, rejected=rejected, tokens=tokens, model=model)
    numbers: list[Number] = []
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        for found in check(view):
            if isinstance(found, Finding):
                findings.append(found)
            else:
                numbers.append(found)
        progress(name)
    findings.sort(key=lambda finding: finding.severity != "warning")
    return Report(
        shape=view.shape,
        given=view.given,
        read=len(view.examples),
        contests=len(view.contests),
        numbers=tuple(numbers),
        findings=tuple(findings),
    )
