"""A method of another package: found, listed and used; a broken one is one clear line.

What an installer would write is made here from the example's own pyproject.toml: a folder
NAME.dist-info on the path, with METADATA and entry_points.txt.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from palate.cli.main import app
from palate.config import build_config
from palate.losses.registry import METHODS, find, plugins

FOLDER = Path(__file__).parents[2] / "examples" / "custom_loss"
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def install(site: Path, name: str, entry_points: dict[str, dict[str, str]]) -> None:
    """The metadata of a package, as in site-packages."""
    folder = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines: list[str] = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on sys.path; modules that a test imports are forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, as `pip install` would leave it."""
    install(site, PROJECT["name"], PROJECT["entry-points"])
    monkeypatch.syspath_prepend(str(FOLDER))
    return site


@pytest.fixture
def broken(site: Path) -> Path:
    """Four packages: one raises at import, one has no method, one another name, one nothing."""
    (site / "raises.py").write_text("raise RuntimeError('two\\nlines')\n")
    (site / "wrong.py").write_text("METHOD = {'name': 'wrong'}\n")
    (site / "renamed.py").write_text("from palate.losses.dpo import METHOD\n")
    modules = ("raises", "wrong", "renamed", "absent")
    for name in modules:
        install(site, f"palate-{name}", {"palate.losses": {name: f"{name}:METHOD"}})
    return site


def palate(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def readme_recipe() -> dict[str, Any]:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    recipe: dict[str, Any] = yaml.safe_load(block)
    return recipe


def test_the_recipe_of_the_readme_finds_it(installed: Path) -> None:
    method, params = find(build_config(readme_recipe()).method)
    assert method.name == "cauchy-ipo"
    assert (params.tau, params.width) == (0.1, 5.0)
    assert "cauchy-ipo" in plugins()
    assert "cauchy-ipo" not in METHODS


def test_it_is_a_term_of_a_sum(installed: Path) -> None:
    method, params = find([{"name": "cauchy-ipo", "width": 2}, {"name": "nll", "weight": 0.2}])
    assert method.name == "cauchy-ipo+nll"
    assert params.cauchy_ipo.width == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "cauchy-ipo", "widht": 1}, "did you mean 'width'"),
        ({"name": "cauchy-ipo", "width": 0}, "must be above 0.0, got 0"),
        ({"name": "cauchy-ip"}, "did you mean 'cauchy-ipo'"),
    ],
)
def test_mistakes_are_named(installed: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        find(given)


def test_it_is_listed_with_its_package(installed: Path) -> None:
    result = palate("methods")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("cauchy-ipo ")]
    assert "from palate-cauchy" in line
    listed = {one["name"]: one["package"] for one in json.loads(palate("methods", "--json").stdout)}
    assert listed["cauchy-ipo"] == "palate-cauchy"
    assert listed["dpo"] is None
    assert "25 ln 2" not in palate("methods", "cauchy-ipo").stdout
    assert "c² log(1 + (r/c)²)" in palate("methods", "cauchy-ipo").stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "method 'raises' of palate-raises cannot be loaded: RuntimeError: two lines"),
        ("absent", "method 'absent' of palate-absent cannot be loaded: ModuleNotFoundError"),
        ("wrong", "method 'wrong' of palate-wrong is no palate.losses.method.Method"),
        ("renamed", "method 'renamed' of palate-renamed is no palate.losses.method.Method"),
    ],
)
def test_a_broken_package_is_one_line(broken: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"method '{name}' of palate-{name}"):
        find({"name": name})
    shown = palate("methods", name)
    assert (shown.exit_code, shown.stdout) == (2, "")
    (line,) = shown.stderr.splitlines()
    assert message in line


def test_a_broken_package_does_not_hide_the_others(broken: Path) -> None:
    result = palate("methods")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(METHODS)
    assert len(result.stderr.splitlines()) == 4
    assert all(line.startswith("! the method '") for line in result.stderr.splitlines())


def test_a_name_of_ours_stays_ours(site: Path) -> None:
    (site / "thief.py").write_text("raise RuntimeError\n")
    install(site, "palate-thief", {"palate.losses": {"dpo": "thief:METHOD"}})
    assert find({"name": "dpo"})[0] is METHODS["dpo"]
    assert "dpo" not in plugins()


@pytest.mark.slow
def test_its_own_tests_pass() -> None:
    """As its README says, from the repository's root."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/custom_loss"],
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER.parents[1],
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
