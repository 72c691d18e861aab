"""`palate data lint`: whether the data teach what the person thinks they teach."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from palate.cli.stop import Stopped
from palate.cli.targets import Target, open_target
from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.curate.lint import Finding, Report, TargetModel

_WIDTH = 100  # of the lines, where the terminal has room for them
_EXAMPLES = 5  # ids that a finding shows; --json lists more


def run_lint(
    target: str,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    shape: str | None = None,
    every: bool = False,
    strict: bool = False,
    as_json: bool = False,
) -> None:
    """Run every check on the target's examples and print what was found.

    `model` is what the on-policy share is measured of: a run's folder or a model as in a recipe;
    lengths are then measured in its tokens too. `every` also lists the numbers that are in order.
    With `strict` the command ends with 1 if there is a warning. Raises `ValueError` for what the
    user can mend.
    """
    say = reporter_for()
    found = open_target(target, overrides, shape)
    asked, tokens = None, None
    if model is not None:
        from palate.cli.likelihood import open_model

        asked, tokens = open_model(model, say)
    report = lint_target(found, asked, tokens, say)
    if as_json:
        facts = {"target": target, **report.to_dict(), "places": _places(report, found)}
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show(report, found, every)
    if strict and report.warnings:
        raise Stopped(f"{_plural(report.warnings, 'warning')} in {target}", 1)


def lint_target(
    found: Target,
    model: TargetModel | None,
    tokens: Callable[[str], int] | None,
    say: Reporter,
) -> Report:
    """The report on a target's examples, measured with the model and its tokenizer if there."""
    from palate.curate.lint import CHECKS, lint

    # Files and stores are not split yet: what is said of the held-out part is not of them.
    split = found.manifest is not None or found.config is not None
    with say.bar("lint", len(CHECKS)) as bar:
        return lint(
            found.train,
            found.heldout if split else None,
            rejected=Counter(reject.reason for reject in found.rejects),
            tokens=tokens,
            model=model,
            progress=lambda name: bar.advance(info=name),
        )


def _places(report: Report, found: Target) -> dict[str, list[dict[str, str | int | None]]]:
    """The rows of each example that a finding names: source, line and hash."""
    named = {key for finding in report.findings for key in finding.examples}
    return {
        example.id: [
            {"source": p.source, "line": p.line, "hash": p.hash} for p in example.provenance
        ]
        for example in found.examples
        if example.id in named
    }


def _show(report: Report, found: Target, every: bool) -> None:
    held = f", {len(found.heldout)} held out" if found.heldout else ""
    kind = {"pair": "pair", "text": "text"}.get(report.shape, "example")
    drawn = f", {report.read} of them looked at" if report.read < report.given else ""
    typer.secho(f"{found.name}: {_plural(report.given, kind)}{held}{drawn}", bold=True)
    for finding in report.findings:
        _show_finding(finding)
    if every:
        _show_numbers(report)
    notes = len(report.findings) - report.warnings
    counted = f"{_plural(report.warnings, 'warning')}, {_plural(notes, 'note')}"
    typer.echo(f"\n{counted}; {_plural(len(report.numbers), 'number')} measured")


def _show_finding(finding: Finding) -> None:
    warning = finding.severity == "warning"
    colour = typer.colors.YELLOW if warning else typer.colors.CYAN
    typer.echo("")
    typer.secho(f"{'!' if warning else '·'} {finding.check}", fg=colour, bold=True, nl=False)
    typer.echo(f"  {finding.number.said}")
    typer.echo(_wrapped(finding.sentence))
    typer.echo(_wrapped(f"Cure: {finding.cure}"))
    if finding.examples:
        typer.echo(_wrapped(f"See: {', '.join(finding.examples[:_EXAMPLES])}"))


def _show_numbers(report: Report) -> None:
    typer.echo("\nWhat was measured, with 95 % intervals")
    width = max(len(number.check) for number in report.numbers)
    for number in report.numbers:
        of = f"of {number.of}" if number.of else ""
        typer.echo(f"  {number.check:<{width}}  {number.said:<18} {of:<9} {number.name}")


def _wrapped(text: str) -> str:
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
    return textwrap.fill(
        text,
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
