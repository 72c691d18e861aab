"""Every recipe parses, names a method with valid parameters, and says what it is for."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from palate.config import RunConfig, load_config
from palate.losses.registry import METHODS, method_of

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "recipes").glob("*.yaml"))
EVERY = [
    *SHIPPED,
    *(
        path
        for path in sorted((ROOT / "examples").rglob("*.yaml"))
        if path.name != "constitution.yaml"  # principles, and no recipe
    ),
]
# Recipes of a method besides the one that is called after it.
VARIANTS = {"constitution", "dpo-full", "dpo-with-nll", "iterative-dpo", "online-sppo", "qlora"}
# Values that differ from the default on purpose, each with its reason in the recipe.
OTHER_VALUES = {("dpo-full", "beta"), ("tr-dpo", "tau")}

each_recipe = pytest.mark.parametrize("path", EVERY, ids=lambda p: str(p.relative_to(ROOT)))
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)


def _raw(path: Path) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return raw


def _terms(path: Path) -> list[dict[str, Any]]:
    """The methods as written, each a mapping."""
    written = _raw(path)["method"]
    listed = written if isinstance(written, list) else [written]
    return [{"name": one} if isinstance(one, str) else dict(one) for one in listed]


@each_recipe
def test_it_loads_and_its_method_is_valid(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, RunConfig)
    method_of(config)


def test_every_method_has_a_recipe_of_its_name() -> None:
    assert {path.stem for path in SHIPPED} == set(METHODS) | VARIANTS


@each_shipped
def test_it_is_called_after_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem
    if path.stem in METHODS:
        assert [term["name"] for term in _terms(path)] == [path.stem]


@each_shipped
def test_every_parameter_is_written_out_at_its_default(path: Path) -> None:
    for term in _terms(path):
        for one in fields(METHODS[term["name"]].params):
            assert one.default is not MISSING
            assert one.name in term, "a recipe shows what can be set"
            if (path.stem, one.name) not in OTHER_VALUES:
                assert term[one.name] == one.default


@each_shipped
def test_it_says_what_it_is_for_and_what_it_needs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    about = text.split("name:")[0]
    assert about.startswith("# ")
    assert all(line.startswith("# ") for line in about.splitlines())
    assert max(len(line) for line in text.splitlines()) <= 100


@each_shipped
def test_nothing_but_its_data_and_model_has_to_be_changed(path: Path) -> None:
    """The paths in a recipe are the two that its reader replaces."""
    config = load_config(path)
    assert config.model.path == "smollm2-135m-instruct"
    assert str(config.data.path).startswith("my-")
    assert config.adapter.path is None
    assert config.evaluate.rule is None
