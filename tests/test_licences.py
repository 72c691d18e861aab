"""The check of the licences says no where it should."""

from __future__ import annotations

import sys
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import licences


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "Apache-2.0 AND MIT",
        "GPL-3.0-only OR MIT",
        "MPL-2.0 AND (Apache-2.0 OR GPL-2.0-only)",
        "Apache-2.0 WITH LLVM-exception",
        "(MIT)",
    ],
)
def test_allowed(expression: str) -> None:
    assert licences.is_allowed(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MIT AND (GPL-3.0-only OR AGPL-3.0-only)",
        "MIT WITH some-exception",
        "MIT AND",
        "(MIT",
        "MIT; DROP",
        "MIT Apache-2.0",
        "no licence",
    ],
)
def test_not_allowed(expression: str) -> None:
    assert not licences.is_allowed(expression)


def test_what_a_package_says() -> None:
    old = ["License :: OSI Approved :: MIT License", "Programming Language :: Python"]
    assert licences.said({"License-Expression": "ISC", "License": "x"}, old) == "ISC"
    assert licences.said({"License": "long\ntext"}, old) == "MIT"
    assert licences.said({"License": "Apache  2.0"}, []) == "Apache-2.0"
    assert licences.said({}, []) == ""
    two = [*old, "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]
    assert not licences.is_allowed(licences.said({}, two))


class Package:
    """What the script reads of an installed package."""

    version = "1"

    def __init__(self, name: str, licence: str) -> None:
        self.metadata = Message()
        self.metadata["Name"], self.metadata["License-Expression"] = name, licence


def test_a_package_that_nobody_has_read() -> None:
    given: list[Any] = [Package("good", "MIT"), Package("Bad_One", "AGPL-3.0-only")]
    given += [Package("psycopg", "x"), Package("nvidia-cublas-cu12", "LicenseRef-NVIDIA")]
    assert list(licences.refused(iter(given))) == ["bad-one 1: 'AGPL-3.0-only'"]


def test_dependencies_of_dependencies_are_looked_at() -> None:
    texts = licences.required(licences.PROJECT)
    found = {package.metadata["Name"].lower() for package in licences.installed(texts)}
    assert {"torch", "markupsafe", "httpcore"} <= found
    assert not {"palate", "pytest"} & found
    names = {
        package.metadata["Name"] for package in licences.installed(["httpx[http2]", "no-such"])
    }
    assert "httpx" in names
