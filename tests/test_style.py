"""The parts of the house style that a linter does not know (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "palate"
FILES = sorted(SRC.rglob("*.py"))
MAX_FILE = 400
MAX_FUNCTION = 60

LONG_FUNCTIONS: dict[str, str] = {}
"""`file.py:function`, and why it is better in one piece than in several."""

BANNED_NAMES = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))


@each_file
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE, f"{lines} lines; split it along what it does"


@each_file
def test_functions_are_short(path: Path) -> None:
    for name, length in _functions(path):
        key = f"{path.relative_to(SRC)}:{name}"
        if key not in LONG_FUNCTIONS:
            assert length <= MAX_FUNCTION, f"{name} has {length} lines"


def test_the_list_of_long_functions_is_current() -> None:
    long = {
        f"{path.relative_to(SRC)}:{name}"
        for path in FILES
        for name, length in _functions(path)
        if length > MAX_FUNCTION
    }
    assert set(LONG_FUNCTIONS) <= long, "these are short now, or gone: remove them from the list"


def _functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines with its docstring left out) of each function in a file."""
    out = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            doc = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                length -= (doc.end_lineno or doc.lineno) - doc.lineno + 1
            out.append((node.name, length))
    return out


@each_file
def test_names_say_what_is_inside(path: Path) -> None:
    assert path.name not in BANNED_NAMES
