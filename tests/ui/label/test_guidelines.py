"""Guidelines as blocks of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.ui.label.guidelines import blocks, read_guidelines

TEXT = """\
# How to choose #

Prefer what **helps**.
It goes on here.

Points:
- short
- no <script>alert(1)</script>
  at all

1. first
2) second
Not a-point
"""


def test_blocks() -> None:
    assert blocks(TEXT) == [
        {"kind": "heading", "text": "How to choose"},
        {"kind": "text", "text": "Prefer what helps. It goes on here."},
        {"kind": "text", "text": "Points:"},
        {
            "kind": "list",
            "points": [
                "short",
                "no <script>alert(1)</script> at all",
                "first",
                "second Not a-point",
            ],
        },
    ]
    assert blocks("") == []
    assert blocks("#no heading") == [{"kind": "text", "text": "#no heading"}]


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "g.md"
    file.write_bytes("\ufeffGrüße".encode() + b"\xff")
    assert read_guidelines(file) == [{"kind": "text", "text": "Grüße\ufffd"}]
    assert read_guidelines(None) == []
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_guidelines(tmp_path / "none.md")
