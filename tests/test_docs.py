"""The documents against the code: generated pages, commands, links, recipes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from palate.config import ConfigError, build_config, load_config
from palate.sweep import plan_sweep

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md")]
    + [
        p
        for room in ("docs", "examples", "recipes", "benchmarks")
        for p in (ROOT / room).rglob("*.md")
    ]
)
RECIPES = sorted(
    p
    for room in ("recipes", "examples")
    for p in (ROOT / room).rglob("*.yaml")
    if "principles:" not in p.read_text(encoding="utf-8")  # a constitution is no recipe
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

FENCE = re.compile(r"^(```+)([^\n]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    text = (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8")
    Draft202012Validator.check_schema(json.loads(text))
    return Draft202012Validator(json.loads(text))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_schema_admits_every_recipe(path: Path, schema: Draft202012Validator) -> None:
    schema.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


METHODS_IN_RECIPES: list[tuple[Any, bool]] = [
    ("dpo", True),
    ({"name": "dpo", "beta": 0.3}, True),
    ([{"name": "dpo", "beta": 0.3}, {"name": "nll", "weight": 0.2}], True),
    (["dpo", "nll"], True),
    ({"name": "kto", "desirable": None, "undesirable": 1.2}, True),
    ({"name": "f-dpo", "divergence": "js"}, True),
    ("dop", False),
    ([], False),
    ({"name": "dpo", "betta": 0.3}, False),
    ({"name": "dpo", "weight": 0.3}, False),
    ([{"name": "dpo", "weight": 0}], False),
    ([{"name": "dpo", "betta": 0.3}], False),
    ({"name": "f-dpo", "divergence": "kl"}, False),
    ({"name": "exo", "epsilon": 0}, False),
    ({"name": "exo", "epsilon": 0.5}, False),
    ({"name": "dpo", "beta": None}, False),
]


@pytest.mark.parametrize(("method", "right"), METHODS_IN_RECIPES, ids=str)
def test_the_schema_says_of_methods_what_the_program_says(
    method: Any, right: bool, schema: Draft202012Validator
) -> None:
    from palate.losses.registry import find

    recipe = {"model": "m", "data": "d", "method": method}
    assert schema.is_valid(recipe) is right
    if right:
        find(build_config(recipe).method)
    else:
        with pytest.raises(ValueError, match=r"\w"):
            find(build_config(recipe).method)


def test_every_method_is_in_the_index_once() -> None:
    from palate.losses.registry import METHODS

    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    assert len(set(headings)) == len(headings), "two headings share an anchor"
    for method in METHODS.values():
        assert headings.count(method.name) == 1
        anchor = re.sub(r"[^\w-]", "", method.name)  # what a page makes of the heading
        assert page.count(f"[`{method.name}`](#{anchor})") == 1
        section = page.split(f"\n### {method.name}\n")[1].split("\n##")[0]
        for text in (method.formula, method.paper, method.when, method.defaults, method.peers):
            assert text.rstrip(".") in section, text
        for one in fields(method.params):
            assert f"| `{one.name}` | `" in section
            assert all(choice in section for choice in one.metadata["choices"])


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.is_relative_to(ROOT) or not there.exists():
            missing.append(target)
        elif anchor and there.suffix == ".md" and anchor not in _anchors(there):
            missing.append(f"{target}: no such heading")
    assert not missing


@each_page
def test_commands_in_code_blocks_parse(page: Path) -> None:
    wrong = [problem for words in _commands(page) if (problem := _problem(words))]
    assert not wrong, "\n".join(wrong)


@each_page
def test_make_targets_in_code_blocks_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for line in _lines(page):
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert {w for w in words[1:] if "=" not in w and w[0] != "-"} <= targets, line


def _anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get: lower case, words joined by hyphens."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+\s+(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _lines(page: Path) -> Iterator[str]:
    """The lines of a page's blocks but ```text: prompts removed, continued lines joined."""
    for _, language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language.strip() == "text":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"^\s*(\$ )?", "", line)


def _commands(page: Path) -> Iterator[list[str]]:
    """Each `palate …` of a page's blocks as words, up to a comment, pipe or redirection."""
    for line in _lines(page):
        for part in re.split(r"\s(?:&&|\|\|?|;|>>?)\s", line):
            if part.startswith("palate "):
                yield shlex.split(part, comments=True)[1:]


def _problem(words: list[str]) -> str:
    """Why `palate WORDS` would be refused, or the empty string."""
    said = f"palate {' '.join(words)}"
    command, rest = _app(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith(("-", "[")):
        if rest[0] not in command.commands:
            return f"{said}: there is no command '{rest[0]}'"
        command = command.commands[rest.pop(0)]
    context = command.context_class(command, info_name="palate")
    # A usage line such as `palate train RECIPE [key=value …]` is not meant to be typed.
    if any(word.startswith(("[", "<")) or "…" in word or "..." in word for word in rest):
        return ""
    try:
        command.make_parser(context).parse_args(list(rest))
    except Exception as error:  # noqa: BLE001 - typer's parser errors have no public base
        return f"{said}: {error}"
    recipes = [word for word in rest if word.startswith(("recipes/", "examples/"))]
    missing = [word for word in recipes if not (ROOT / word).exists()]
    if missing:
        return f"{said}: there is no {missing[0]}"
    for recipe in recipes:
        if ROOT / recipe in RECIPES:
            try:
                settings = [w for w in rest if "=" in w and not w.startswith("-")]
                read = plan_sweep if words[0] == "sweep" else load_config
                read(ROOT / recipe, settings)
            except ConfigError as error:
                return f"{said}: {error}"
    return ""


def _app() -> Any:
    from typer.main import get_command

    from palate.cli.main import app

    return get_command(app)
