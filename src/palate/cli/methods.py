"""`palate methods`: what can be trained with, by the data it needs, or one method whole.

The method index (docs/methods.md) is written from the same facts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from palate.losses.method import Method


@dataclass(frozen=True, slots=True)
class Data:
    """A shape of data: its short name, what one example is, and where it comes from."""

    name: str
    example: str
    source: str


DATA = {
    "pair": Data(
        "pairs",
        "a chosen and a rejected answer to the same prompt",
        "files of pairs; or a thumb up and a thumb down, or two scores, on answers to the same "
        "prompt",
    ),
    "labelled": Data(
        "thumbs",
        "an answer with a thumb up or down",
        "a log with thumbs; a pair gives two, its chosen answer up and its rejected one down",
    ),
    "demonstration": Data(
        "answers",
        "a good answer to a prompt",
        "messages, or prompt and completion; of pairs the chosen answers, of a log with thumbs "
        "those with a thumb up",
    ),
    "prompt": Data(
        "prompts",
        "a prompt, which the model answers itself",
        "rows with nothing but `prompt`, or those of any other data; their answers may serve a "
        "judge as solutions",
    ),
    "text": Data(
        "text",
        "a document",
        "files of text (.txt, .md), or rows with `text`",
    ),
}
GROUPS = (
    "Pairs, with a reference",
    "Pairs, without a reference",
    "Thumbs",
    "Good answers, text, reward models",
    "Samples of its own",
)
_SYMBOLS = {"above": ">", "at_least": "≥", "below": "<", "at_most": "≤"}
_NAMES, _DATA, _REFERENCE = 12, 9, 9  # columns of the list


def run_methods(name: str | None, *, as_json: bool) -> None:
    """Print the list or one method; raises `ValueError` naming the nearest name."""
    from palate.losses.registry import lookup

    console = Console(highlight=False, markup=False, emoji=False)
    if name is not None:
        method = lookup(name)
        if as_json:
            typer.echo(json.dumps(to_dict(method), ensure_ascii=False))
        else:
            show_one(method, console)
        return
    found, broken = every_method()
    if as_json:
        typer.echo(json.dumps([to_dict(method) for method in found], ensure_ascii=False))
    elif sys.stdout.isatty():
        show_list(found, console)
    else:
        typer.echo("\n".join(plain_list(found)))
    for problem in broken:
        typer.echo(f"! {problem}", err=True)


def every_method() -> tuple[list[Method], list[str]]:
    """Ours and those of other packages, by group; and why some of theirs cannot be loaded."""
    from palate.losses.registry import METHODS, lookup, plugins

    found, broken = list(METHODS.values()), []
    for name in plugins():
        try:
            found.append(lookup(name))
        except ValueError as error:
            broken.append(" ".join(str(error).split()))
    return sorted(found, key=lambda method: GROUPS.index(group(method))), broken


def group(method: Method) -> str:
    """The group it is listed in, by what it declares."""
    paired, free, thumbs, rest, own = GROUPS
    if method.online is not None and method.online.always:
        return own
    if method.shape == "labelled":
        return thumbs
    if method.shape != "pair" or method.head != "own":
        return rest
    return paired if method.reference else free


def package(method: Method) -> str | None:
    """The package that brings it, where that is another one than this."""
    from importlib.metadata import entry_points

    from palate.losses.registry import GROUP, METHODS

    if METHODS.get(method.name) is method:
        return None
    points = entry_points(group=GROUP, name=method.name)
    return next((point.dist.name for point in points if point.dist), "another package")


def facts(method: Method) -> list[tuple[str, str]]:
    """What there is to say about a method beside its formula and parameters, as (what, text)."""
    data = DATA[method.data]
    costs = "; ".join(_costs(method))
    rows = [
        ("paper", method.paper),
        ("data", f"{data.name}: {data.example}. From: {data.source}"),
        ("reference", _reference(method)),
        ("log-probs", _log_probs(method)),
        ("loss", _average(method)),
        ("also", costs),
        ("first loss", _first_loss(method)),
        ("when", method.when),
        ("defaults", method.defaults),
        ("elsewhere", method.peers),
    ]
    return [(what, text) for what, text in rows if text]


def _reference(method: Method) -> str:
    if not method.reference:
        return "none"
    if method.online is not None and method.online.always:
        return "computed once for each rollout"
    if method.live_only is not None:
        return f"computed at every step: {method.live_only}"
    return "computed once, and kept on disk"


def _log_probs(method: Method) -> str:
    if method.head == "scalar":
        return "none; a head of one number is read at the last token"
    of = "a document" if method.shape == "text" else "an answer"
    return f"{method.tokens}, over the tokens of {of}"


def _average(method: Method) -> str:
    if method.normalise == "tokens":
        return "divided by the trained tokens of the step"
    units = {"pair": "pairs", "labelled": "answers", "sample": "answers"}
    return f"mean over the {units.get(method.shape, 'examples')} of the step"


def _costs(method: Method) -> list[str]:
    """What it does beyond one forward and one backward pass."""
    out = []
    if method.online is not None and method.online.always:
        out.append("sampling, and a pass of the policy over what was sampled")
    if method.head == "value":
        out.append("a value head, trained along")
    if method.statistic is not None:
        over = "prompts with answers to other prompts" if method.mismatched else "the whole step"
        out.append(f"a pass without gradient over {over} before each step")
    if "kl" in method.sums:
        out.append("KL over the vocabulary at each token")
    if "log_sum_p2" in method.sums:
        out.append("the policy's whole distribution at each token")
    if method.initial_state is not None:
        out.append("state that is kept in the checkpoints")
    if method.moving is not None:
        out.append("the reference is kept in the checkpoints")
    if method.resolve is not None:
        out.append("parameters that are null are set from the data")
    return out


def _first_loss(method: Method) -> str:
    if method.initial_loss is None:
        return "no constant: it depends on model and data"
    value = f"{method.initial_loss:.6f}".rstrip("0").rstrip(".")
    where = ", where policy = reference" if method.reference else ""
    unless = ", unless the data sets a weight" if method.resolve is not None else ""
    return f"{value} with the defaults{where}{unless}"


def default_of(parameter: Any) -> str:
    """A parameter's default as one writes it in a recipe."""
    value = parameter.default
    if value is MISSING:
        return "required"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def range_of(parameter: Any) -> str:
    """A parameter's range, or its choices, in signs."""
    choices = parameter.metadata.get("choices", ())
    limits = ((sign, parameter.metadata.get(name)) for name, sign in _SYMBOLS.items())
    return " or ".join(choices) or ", ".join(
        f"{sign} {value:g}" for sign, value in limits if value is not None
    )


def to_dict(method: Method) -> dict[str, Any]:
    """The method as JSON, parameters included."""
    return {
        "name": method.name,
        "title": method.title,
        "group": group(method),
        "package": package(method),
        "formula": method.formula,
        "paper": method.paper,
        "data": method.data,
        "reference": method.reference,
        "reference_at_every_step": method.live_only,
        "head": method.head,
        "tokens": method.tokens,
        "normalise": method.normalise,
        "initial_loss": method.initial_loss,
        "when": method.when,
        "defaults": method.defaults,
        "peers": method.peers,
        "parameters": [
            {
                "name": one.name,
                "default": None if one.default is MISSING else one.default,
                "required": one.default is MISSING,
                "range": range_of(one),
                "description": one.metadata.get("description", ""),
            }
            for one in fields(method.params)
        ],
    }


def _short_reference(method: Method) -> str:
    if not method.reference:
        return "no"
    return "each step" if method.live_only else "yes"


def _title(method: Method) -> str:
    brings = package(method)
    return f"{method.title} (from {brings})" if brings else method.title


def plain_list(methods: list[Method]) -> list[str]:
    """One line for each method, for pipes: name, data, reference, what it is and when."""
    return [
        f"{one.name:<{_NAMES}} {DATA[one.data].name:<{_DATA}} "
        f"{_short_reference(one):<{_REFERENCE}} {_title(one)}. {one.when}"
        for one in methods
    ]


def show_list(methods: list[Method], console: Console) -> None:
    """A table by group: what it is on one line, when to use it below."""
    from rich.table import Table
    from rich.text import Text

    wide = max([_NAMES, *(len(one.name) for one in methods)])
    right = f"{'data':<{_DATA}}{'reference':<{_REFERENCE}}"
    for title in GROUPS:
        inside = [one for one in methods if group(one) == title]
        if not inside:
            continue
        console.print(
            Text(title, style="bold").append(right.rjust(console.width - len(title)), style="dim")
        )
        table = Table.grid(expand=True)
        table.add_column(width=wide + 1, no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(width=_DATA + 1, no_wrap=True)
        table.add_column(width=_REFERENCE, no_wrap=True)
        for one in inside:
            about = Text(_title(one)).append(f"\n{one.when}", style="dim")
            data, reference = DATA[one.data].name, _short_reference(one)
            table.add_row(Text(one.name, style="bold"), about, f" {data}", reference)
        console.print(table)
        console.print()
    console.print("palate methods NAME shows one whole. How to sum them: docs/methods.md")


def show_one(method: Method, console: Console) -> None:
    """Everything about one method, its parameters, and how a recipe names it."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{method.name}: {_title(method)}", style="bold"), soft_wrap=True)
    console.print(Text(f"\n  {method.formula}\n"), soft_wrap=True)
    rows = facts(method)
    wide = max(len(what) for what, _ in rows)
    if not console.is_terminal:
        for what, text in rows:
            console.print(f"  {what:<{wide}}  {text}", soft_wrap=True)
    else:
        table = Table.grid(padding=(0, 2, 0, 2))
        table.add_column(width=wide, style="dim")
        table.add_column(overflow="fold")
        for what, text in rows:
            table.add_row(what, Text(text))
        console.print(table)
    console.print()
    _show_parameters(method, console)
    settings = {one.name: default_of(one) for one in fields(method.params)}
    inside = ", ".join(
        f"{key}: {value}" for key, value in {"name": method.name, **settings}.items()
    )
    console.print(f"\nIn a recipe, with the defaults: method: {{{inside}}}", soft_wrap=True)


def _show_parameters(method: Method, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    parameters = fields(method.params)
    if not parameters:
        console.print("It has no parameters.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("parameter", "default", "range"):
        table.add_column(name, no_wrap=name != "range")
    table.add_column("what it decides", overflow="fold")
    for one in parameters:
        about = one.metadata.get("description", "")
        table.add_row(one.name, default_of(one), range_of(one), Text(about))
    console.print(table)
