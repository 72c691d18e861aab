"""The rooms and their walls: who may import whom, and what stays light.

The table below is the one in CONTRIBUTING.md. Imports inside functions count too, with two
exceptions: the command line imports lazily, and the training room is callable.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "palate"

FOUNDATION = {
    "records",
    "config",
    "problems",
    "sections",
    "recipe_text",
    "machine",
    "durable",
    "resumable",
    "addresses",
}
DATA = {"ingest", "curate", "store"}
ENGINE = {"tokens", "model", "losses", "generate", "judge", "train", "evaluate", "ship"}
ASKING = {"speak", "constitution", "redteam"}
HEAVY = {"torch", "transformers", "peft", "safetensors", "tokenizers"}
CURATION = {
    "numpy",
    "rensa",
    "duckdb",
    "py3langid",
    "presidio_analyzer",
    "spacy",
    "phonenumbers",
    "tldextract",
    "detect_secrets",
}
"""MinHash and its join; languages; personal data and secrets. None of them needs a model."""
LINT = {"numpy", "sklearn", "scipy"}
"""A bag-of-words model fitted on the spot, and quantiles; imported where they are used."""
SERVER = {"uvicorn", "uvloop", "aiohttp", "yarl"}
"""What listens, and what asks the provider."""
ANY = None
"""Stands for "whatever pyproject.toml lists"."""


@dataclass(frozen=True)
class Room:
    """`ours`: rooms it may import beside itself. `theirs`: third-party packages it may import."""

    ours: set[str]
    theirs: set[str] | None = ANY


ROOMS = {
    "__init__": Room(set(), set()),  # its names are resolved on first use
    "records": Room(set(), set()),
    "machine": Room(set(), set()),
    "durable": Room(set(), set()),
    "progress": Room(set(), {"rich"}),
    "recipe_text": Room(set(), {"yaml"}),
    "sections": Room(set(), {"pydantic"}),
    "problems": Room({"recipe_text"}, {"pydantic"}),
    "config": Room({"problems", "recipe_text", "sections"}, {"pydantic", "yaml"}),
    "sweep": Room(FOUNDATION, set()),
    "ingest": Room(FOUNDATION, {"pyarrow", "huggingface_hub", "yaml", "orjson"}),
    "curate": Room(FOUNDATION | {"ingest"}, {"pyarrow"} | CURATION | LINT),
    "store": Room(FOUNDATION | {"ingest", "curate"}, {"pyarrow", "duckdb", "sqlalchemy", "orjson"}),
    "losses": Room(set(), {"torch"}),
    "tokens": Room({"records"}, {"torch", "numpy", "jinja2"}),
    "model": Room(FOUNDATION | {"tokens"}),
    "addresses": Room(set(), set()),
    "client": Room({"addresses"}, {"httpx"}),
    "generate": Room(FOUNDATION | {"client", "model", "tokens"}),
    "judge": Room(FOUNDATION | {"client", "tokens", "model", "generate", "losses"}),
    "resumable": Room({"durable"}, set()),
    "speak": Room(FOUNDATION | {"generate", "judge", "model", "tokens"}, {"pydantic"}),
    "constitution": Room(FOUNDATION | {"speak", "judge"}, {"yaml", "pydantic"}),
    "redteam": Room(
        FOUNDATION | {"curate", "evaluate", "ingest", "judge", "progress", "speak"},
        {"yaml", "pydantic", "numpy"},
    ),
    "train": Room(FOUNDATION | {"tokens", "model", "losses", "progress"}),
    "rollout": Room(FOUNDATION | {"progress"} | (ENGINE - {"evaluate", "ship"})),
    "evaluate": Room(FOUNDATION | DATA | {"progress"} | (ENGINE - {"ship"})),
    "ship": Room(FOUNDATION | DATA | {"progress"} | ENGINE),
    "run": Room(FOUNDATION | DATA | {"progress"} | ENGINE | {"rollout", "stages"}),  # each other's
    "stages": Room(FOUNDATION | DATA | {"progress"} | ENGINE | {"run"}),
    "guard": Room(FOUNDATION | DATA | {"progress", "run"} | ENGINE),
    "experiments": Room(
        FOUNDATION | {"progress", "resumable", "curate"} | (ENGINE - {"ship"}) | {"rollout"}
    ),
    "web": Room(FOUNDATION | DATA | {"progress"}, {"pydantic", "yaml", "pyarrow"} | SERVER),
    "serve": Room(
        FOUNDATION | {"generate", "model", "tokens", "guard", "store", "ingest", "web"},
        {"torch", "orjson", "prometheus_client"},
    ),
    "ui": Room(
        FOUNDATION | DATA | {"client", "evaluate", "judge", "losses", "progress", "web"},
        {"starlette", "uvicorn", "jinja2", "httpx", "pydantic", "orjson", "sqlalchemy", "numpy"}
        | {"yaml"},
    ),
    "cli": Room(
        FOUNDATION
        | DATA
        | {"progress"}
        | ENGINE
        | ASKING
        | {"rollout", "run", "stages", "sweep", "web", "guard", "serve", "ui", "experiments"}
    ),
}

CLI_TOP = {"typer", "rich", "palate.config", "palate.records", "palate.progress"}
"""What a file of the command line may import at its top, beside the standard library."""

HELP_MODULES = {
    "annotated_doc",
    "attr",
    "click",
    "markdown_it",
    "mdurl",
    "palate",
    "pygments",
    "rich",
    "shellingham",
    "typer",
    "typing_extensions",
}
"""Every package outside the standard library that `palate --help` may load: typer, and what
typer draws its help with."""


@dataclass(frozen=True)
class Import:
    """One import statement; `top` when it runs as soon as its file is imported."""

    module: str
    line: int
    top: bool
    typing: bool


def _imports(path: Path) -> Iterator[Import]:
    """Every absolute module name a file imports, `from a import b` as `a.b`."""
    yield from _walk(ast.parse(path.read_text(encoding="utf-8")), top=True, typing=False)


def _walk(node: ast.AST, *, top: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, top, typing)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative import; write palate.…"
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", child.lineno, top, typing)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(child, top=top and not function, typing=typing or checking)


def _room(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


FILES = sorted(p for p in SRC.rglob("*.py"))


def test_every_room_is_in_the_table() -> None:
    assert {_room(path) for path in FILES} <= set(ROOMS), "say in ROOMS who it may import"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_respect_the_walls(path: Path) -> None:
    name = _room(path)
    if name not in ROOMS:
        pytest.skip("not in the table; another test says so")
    room, problems = ROOMS[name], []
    for found in _imports(path):
        parts = found.module.split(".")
        if name == "__init__" and found.typing:
            continue
        if name == "train" and path.name == "__init__.py" and not found.top:
            ways_out = {"palate.run.train", "palate.machine.calm_threads"}
            assert found.module in ways_out, "the training room is left through one door"
            continue
        if found.module == "palate.__version__":
            continue
        if parts[0] == "palate":
            if len(parts) > 1 and parts[1] not in room.ours | {name}:
                problems.append(f"line {found.line}: {name} may not import {found.module}")
        elif parts[0] in sys.stdlib_module_names:
            continue
        elif parts[0] in {"accelerate", "trl", "datasets"} or (
            room.theirs is not ANY and parts[0] not in room.theirs
        ):
            problems.append(f"line {found.line}: {name} may not import {parts[0]}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "path", [p for p in FILES if _room(p) == "cli"], ids=lambda p: str(p.relative_to(SRC))
)
def test_the_command_line_imports_lazily(path: Path) -> None:
    top = [i for i in _imports(path) if i.top and not i.typing]
    heavy = [
        f"line {i.line}: {i.module}"
        for i in top
        if i.module.split(".")[0] not in sys.stdlib_module_names
        and not i.module.startswith("palate.cli")
        and not any(i.module == a or i.module.startswith(a + ".") for a in CLI_TOP)
    ]
    assert not heavy, "move into the function that needs it:\n" + "\n".join(heavy)


@pytest.mark.parametrize(
    "room",
    ["config", "records", "progress", "sweep", "ingest", "curate", "store", "web", "judge", "ui"],
)
def test_light_rooms_work_without_torch(room: str) -> None:
    """Every file of a light room imports with the heavy packages made impossible to import."""
    files = [p for p in FILES if _room(p) == room]
    names = [".".join(p.relative_to(SRC.parent).with_suffix("").parts) for p in files]
    assert names
    modules = sorted(n.removesuffix(".__init__") for n in names)
    code = "import sys, importlib\n"
    code += f"sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))\n"
    code += f"for name in {modules!r}: importlib.import_module(name)\n"
    _python(code)


HELP = """
import json, sys
sys.argv = ["palate", "--help"]
from palate.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([sorted(loaded - set(sys.stdlib_module_names)),
                  sorted(n for n in sys.modules if n.startswith("palate"))]))
"""


def test_help_loads_nothing_heavy() -> None:
    before = json.loads(_python(STARTUP))
    out = _python(HELP)
    packages, ours = json.loads(out.splitlines()[-1])
    assert "palate" in out
    assert set(packages) - set(before) <= HELP_MODULES
    outside = [m for m in ours if m != "palate" and not m.startswith("palate.cli")]
    assert not outside, f"`palate --help` loads {outside}"


STARTUP = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
"""What Python itself loads when it starts here (hooks of the environment)."""


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(SRC.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
