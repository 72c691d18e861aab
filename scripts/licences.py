"""Whether everything that Palate depends on may be used with it: `python scripts/licences.py`.

Offline: reads what the installed packages say of themselves. Looked at are palate's own
dependencies, those of all its extras but `dev`, and theirs in turn; what is not installed is not
looked at. A licence that is not listed here fails, so that somebody reads it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",  # concerns changes of its own files, of which we make none
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}
WITH = {"LLVM-exception"}
EXCEPTIONS = {
    "psycopg": "LGPL-3.0: an extra, used as a library and as it is",
    "psycopg-binary": "LGPL-3.0: an extra, used as a library and as it is",
    "llama-cpp-python": "says nothing in its metadata; the licence in its repository is MIT",
}
"""Packages that are used although what they say is not in the list, and why that is right."""
EXCEPTED = {
    "nvidia-": "NVIDIA's terms: the CUDA libraries that torch's builds for GPUs bring; an install "
    "fetches them from PyPI, and nothing of ours contains them",
}
"""The same for all packages whose names begin so."""
_MEANT = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "isc license": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
_TOKEN = re.compile(r"[()]|[\w.+-]+")


def said(metadata: Mapping[str, str], classifiers: list[str]) -> str:
    """What a package says of its licence, as an SPDX expression where it can be read as one."""
    if expression := metadata.get("License-Expression"):
        return expression
    listed = [c.rpartition("::")[2].strip() for c in classifiers if c.startswith("License ::")]
    named = [_MEANT.get(name.lower(), name) for name in listed if name != "OSI Approved"]
    if named:
        return " AND ".join(f"({name})" if " OR " in name else name for name in named)
    text = " ".join((metadata.get("License") or "").split())
    return _MEANT.get(text.lower(), text[:60])


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression lets us: one side of an OR, both of an AND."""
    tokens = _TOKEN.findall(expression)
    whole = re.sub(r"\s", "", expression) == "".join(tokens)
    try:
        return bool(tokens) and whole and _either(tokens) and not tokens
    except IndexError:  # it ends in the middle
        return False


def _either(tokens: list[str]) -> bool:
    found = _both(tokens)
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        found = _both(tokens) or found
    return found


def _both(tokens: list[str]) -> bool:
    found = _one(tokens)
    while tokens and tokens[0] == "AND":
        tokens.pop(0)
        found = _one(tokens) and found
    return found


def _one(tokens: list[str]) -> bool:
    token = tokens.pop(0)
    if token == "(":
        found = _either(tokens)
        return tokens.pop(0) == ")" and found
    found = token in ALLOWED
    if tokens and tokens[0] == "WITH":
        tokens.pop(0)
        found = tokens.pop(0) in WITH and found
    return found


def required(project: Path) -> list[str]:
    """What a pyproject.toml asks for, with all extras but `dev`."""
    found = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = found["optional-dependencies"]
    texts = [*found["dependencies"], *(t for name in extras if name != "dev" for t in extras[name])]
    return [text for text in texts if canonicalize_name(Requirement(text).name) != found["name"]]


def installed(texts: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """The installed packages that requirements lead to, by name."""
    todo = [(text, frozenset[str]()) for text in texts]
    seen: set[tuple[str, frozenset[str]]] = set()
    found: dict[str, importlib.metadata.Distribution] = {}
    while todo:
        text, wanted = todo.pop()
        need = Requirement(text)
        options = [{"extra": extra} for extra in ("", *wanted)]
        if need.marker and not any(need.marker.evaluate(option) for option in options):
            continue
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found[key[0]] = importlib.metadata.distribution(key[0])
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [(text, key[1]) for text in found[key[0]].requires or []]
    yield from (found[name] for name in sorted(found))


def refused(packages: Iterator[importlib.metadata.Distribution]) -> Iterator[str]:
    """A line for each package whose licence nobody has read."""
    for package in packages:
        metadata = package.metadata
        name = canonicalize_name(metadata["Name"])
        if name in EXCEPTIONS or any(name.startswith(begin) for begin in EXCEPTED):
            continue
        fields = {n: metadata[n] for n in ("License-Expression", "License") if n in metadata}
        expression = said(fields, metadata.get_all("Classifier") or [])
        if not is_allowed(expression):
            yield f"{name} {package.version}: '{expression or 'no licence'}'"


def main() -> int:
    """Print what is wrong; returns the exit code."""
    packages = list(installed(required(PROJECT)))
    wrong = list(refused(iter(packages)))
    for line in wrong:
        sys.stdout.write(f"{line}: read it, then add it to ALLOWED or EXCEPTIONS in {__file__}\n")
    sys.stdout.write(f"licences of {len(packages)} packages: {len(wrong)} not allowed\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
