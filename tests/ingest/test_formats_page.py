"""docs/formats.md: written from the registry, and complete."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from scripts.formats import PAGE, REASONS, page

from palate.ingest import FORMATS
from palate.store.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/formats.py"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_described_with_its_fields_and_a_row(name: str) -> None:
    known, text = FORMATS[name], page()
    section = text.split(f"\n### {name}\n")[1].split("\n### ")[0]
    assert all(f"`{field}`" in section for field in known.fields)
    assert "```json" in section
    assert text.count(f"[`{name}`](#{name})") == 1


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_listed(name: str) -> None:
    assert f"| `{name}` | {', '.join(TARGETS[name].shapes)} |" in page()


def _raised(folder: str, error: str) -> set[str]:
    """The reasons that a room raises `error` with."""
    found = set()
    for path in (ROOT / "src" / "palate" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                first = node.args[0] if node.args else None
                if node.func.id == error and isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_reason_is_explained_and_no_other() -> None:
    of_files = {"unknown-format", "signal-elsewhere"}
    assert _raised("ingest", "RecordError") | of_files == set(REASONS)
    code = (ROOT / "src" / "palate" / "ingest" / "read.py").read_text(encoding="utf-8")
    assert all(f'"{reason}"' in code for reason in of_files)


def test_every_reason_of_the_exports_is_explained() -> None:
    text = page().split("## Export")[1]
    assert all(f"- `{reason}`" in text for reason in _raised("store", "Unfit"))
