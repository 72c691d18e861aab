"""`palate methods`: the list in a terminal and in a pipe, one method whole, and mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from rich.console import Console
from typer.testing import Result

from palate.cli.methods import GROUPS, every_method, facts, group, range_of, show_list, show_one
from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.params import param
from palate.losses.registry import METHODS

Palate = Callable[..., Result]


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_pipe_gets_one_line_for_each(palate: Palate) -> None:
    result = palate("methods")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [m.name for m in every_method()[0]]
    assert {line.split()[0] for line in lines} >= set(METHODS)
    (kto,) = [line for line in lines if line.startswith("kto ")]
    assert kto.split()[1:3] == ["thumbs", "yes"]
    assert METHODS["kto"].when in kto
    (tdpo,) = [line for line in lines if line.startswith("tdpo ")]
    assert " each step " in tdpo, "its reference cannot be cached"


def test_methods_come_by_group() -> None:
    groups = {title: [m.name for m in every_method()[0] if group(m) == title] for title in GROUPS}
    assert groups[GROUPS[0]][0] == "dpo"
    assert groups[GROUPS[1]] == ["cpo", "simpo", "orpo", "slic", "nll"]
    assert groups[GROUPS[2]] == ["kto", "classifier"]
    assert groups[GROUPS[3]] == ["reward", "sft", "pretrain"]
    assert groups[GROUPS[4]][:3] == ["online-dpo", "spin", "xpo"]
    assert {"grpo", "ppo", "nash-md"} <= set(groups[GROUPS[4]])
    order = [GROUPS.index(group(m)) for m in every_method()[0]]
    assert order == sorted(order)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_gets_a_table_that_fits(width: int) -> None:
    console = terminal(width)
    show_list(list(METHODS.values()), console)
    lines = shown(console)
    assert max(len(line) for line in lines) <= width
    for title in GROUPS:
        assert sum(line.startswith(title) for line in lines) == 1
    for method in METHODS.values():
        assert sum(line.split(" ")[0] == method.name for line in lines) == 1
    (dpo,) = [number for number, line in enumerate(lines) if line.startswith("dpo ")]
    assert lines[dpo].split()[-2:] == ["pairs", "yes"]


@pytest.mark.parametrize("name", METHODS)
def test_one_is_shown_whole(palate: Palate, name: str) -> None:
    result = palate("methods", name)
    method = METHODS[name]
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: {method.title}\n")
    for text in (method.formula, method.paper, method.when, method.defaults, method.peers):
        assert text in result.stdout
    assert f"method: {{name: {name}" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_one_fits_a_terminal(width: int) -> None:
    console = terminal(width)
    show_one(METHODS["f-dpo"], console)
    table = [line for line in shown(console) if line.startswith(("beta ", "divergence ", "  "))]
    assert len(table) > 4
    assert any("reverse-kl or forward-kl" in line or "reverse-kl" in line for line in table)
    assert "forward-kl" in "".join(shown(console))


def test_the_facts_are_what_is_declared() -> None:
    said = {name: dict(facts(method)) for name, method in METHODS.items()}
    assert said["dpo"]["reference"] == "computed once, and kept on disk"
    assert said["tdpo"]["reference"].startswith("computed at every step: it reads")
    assert said["tr-dpo"]["reference"] == "computed at every step: its reference moves"
    assert said["simpo"]["reference"] == "none"
    assert said["simpo"]["log-probs"].startswith("mean, ")
    assert said["sft"]["loss"] == "divided by the trained tokens of the step"
    assert said["kto"]["loss"] == "mean over the answers of the step"
    assert "answers to other prompts" in said["kto"]["also"]
    assert "null are set from the data" in said["kto"]["also"]
    assert "kept in the checkpoints" in said["bco"]["also"]
    assert "also" not in said["dpo"]
    assert said["reward"]["log-probs"].startswith("none; a head")


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("dpo", "0.693147 "),
        ("hinge", "1 "),
        ("ipo", "25 "),
        ("sppo", "50 "),
        ("nca", "1.386294 "),
        ("kto", "0.5 "),
        ("discopop", "0.846574 "),
        ("reward", "0.693147 "),
        ("sft", "no constant"),
    ],
)
def test_the_first_loss(name: str, loss: str) -> None:
    assert dict(facts(METHODS[name]))["first loss"].startswith(loss)


def test_ranges_and_choices_in_signs() -> None:
    @dataclass(frozen=True)
    class Some:
        free: float = param(1.0, "x")
        share: float = param(0.1, "x", at_least=0.0, below=0.5)
        open: float = param(0.1, "x", above=0.0, at_most=1.0)
        kind: str = param("sum", "x", choices=("sum", "mean"))

    def loss(pairs: Pairs, params: Some, context: Context) -> LossOutput:
        raise AssertionError

    method = replace(METHODS["dpo"], name="some", params=Some, loss=loss)
    found = [range_of(one) for one in method.params.__dataclass_fields__.values()]
    assert found == ["", "≥ 0, < 0.5", "> 0, ≤ 1", "sum or mean"]
    console = terminal(80)
    show_one(method, console)
    assert "name: some, free: 1.0, share: 0.1, open: 0.1, kind: sum" in shown(console)[-1]


def test_as_json(palate: Palate) -> None:
    result = palate("methods", "--json")
    listed = json.loads(result.stdout)
    assert [one["name"] for one in listed] == [m.name for m in every_method()[0]]
    one = json.loads(palate("methods", "ipo", "--json").stdout)
    assert one == next(other for other in listed if other["name"] == "ipo")
    assert (one["data"], one["reference"], one["initial_loss"]) == ("pair", True, 25.0)
    tokens = next(p for p in one["parameters"] if p["name"] == "tokens")
    assert (tokens["default"], tokens["range"], tokens["required"]) == ("sum", "sum or mean", False)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("dpoo", "error: no method is called 'dpoo'; did you mean 'dpo'?"),
        ("KTO", "error: no method is called 'KTO'; did you mean 'kto'?"),
        ("zzz", "error: no method is called 'zzz'; there is: dpo, cdpo, "),
    ],
)
def test_a_mistake_is_one_line_and_2(palate: Palate, name: str, line: str) -> None:
    result = palate("methods", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(line)


def test_help_names_it(palate: Palate) -> None:
    assert "methods" in palate("--help").stdout


def test_every_method_has_one_line_of_when() -> None:
    long: list[Method] = [m for m in METHODS.values() if len(m.when) > 100 or "\n" in m.when]
    assert not long, [m.name for m in long]
