"""Who can stand in the arena: runs, what they began from, models of a recipe, and URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from palate.config import ConfigError, apply_overrides, load_config
from palate.problems import explain
from palate.sections import ServerConfig

Kind = Literal["run", "base", "model", "server"]
_RUN = re.compile(r"[\w][\w.@+-]*(/[\w][\w.@+-]*)?")


@dataclass(frozen=True, slots=True)
class Contender:
    """A model under the name that votes keep.

    `key` names it in a form and is what `read` reads; `words` are its part of the command
    `palate serve`, of a model on this machine; `server` is where another one runs.
    """

    key: str
    name: str
    kind: Kind
    words: tuple[str, ...] = ()
    server: ServerConfig | None = None


def offered(runs: Path, models: Sequence[str]) -> list[Contender]:
    """The finished runs of the folder, the latest first, each with its base; then the models.

    A run whose config cannot be read is left out.
    """
    places = [*runs.glob("*/config.yaml")]
    found: list[Contender] = []
    for place in sorted(places, key=lambda one: one.stat().st_mtime, reverse=True):
        if _finished(place.parent):
            for kind in ("run", "base"):
                try:
                    found.append(read(f"{kind}:{place.parent.name}", runs))
                except (ValueError, OSError):
                    continue
    return [*found, *(read(model, runs) for model in models)]


def read(text: str, runs: Path) -> Contender:
    """`run:NAME` and `base:NAME` of the runs' folder; `URL#MODEL key_env=NAME`; else a model.

    Raises `ConfigError` with the cure.
    """
    text = text.strip()
    kind, _, name = text.partition(":")
    if text.startswith(("http://", "https://")):
        return _server(text)
    if kind in {"run", "base"}:
        return _of_run(text, kind == "base", name, runs)
    if not text or text.startswith("-") or len(text) > 500 or not text.isprintable():
        raise ConfigError(
            "name a model: a folder, a name as in a recipe, or a server as https://HOST/v1#MODEL"
        )
    place = Path(text).expanduser()
    shown = place.resolve().name if place.exists() else text
    return Contender(text, shown, "model", (text,))


def key_of(server: ServerConfig) -> str | None:
    """The key that the environment holds for this server; raises `ConfigError` if it has none."""
    if server.key_env is None:
        return None
    key = os.environ.get(server.key_env, "").strip()
    if not key:
        raise ConfigError(
            f"the key of {server.model} is to stand in the variable {server.key_env}: set it, and "
            "start palate ui again"
        )
    return key


def command(contenders: Sequence[Contender]) -> tuple[list[str], list[Contender]]:
    """Arguments of `palate serve`, and the contenders in the order in which it tells of them."""
    local = sorted((one for one in contenders if one.kind != "server"), key=lambda one: one.key)
    bases = [one for one in local if one.kind == "base"]
    others = [one for one in local if one.kind != "base"]
    options = [word for one in bases for word in one.words]
    return [*options, "--", *(word for one in others for word in one.words)], [*others, *bases]


def _of_run(text: str, base: bool, name: str, runs: Path) -> Contender:
    folder = runs / name
    if not _RUN.fullmatch(name) or not (folder / "config.yaml").is_file():
        raise ConfigError(f"there is no run '{name:.60}' in {runs}")
    if not base:
        return Contender(text, folder.name, "run", (str(folder),))
    place = load_config(folder / "config.yaml").model.path
    return Contender(text, Path(place).name, "base", ("--base", str(folder)))


def _finished(folder: Path) -> bool:
    """Whether a model lies there, or in a stage: what it is worth, `palate serve` finds out."""
    return any(
        (place / "model" / "config.json").is_file()
        for place in (folder, *(one.parent for one in folder.glob("*/config.yaml")))
    )


def _server(text: str) -> Contender:
    where, *words = text.split()
    url, _, model = where.partition("#")
    if not model:
        raise ConfigError(f"say which model of {url} is meant: {url}#MODEL")
    settings = apply_overrides({}, words)
    unknown = [name for name in settings if name not in {"key_env", "extra"}]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not known here: there are key_env and extra.FIELD")
    try:
        server = ServerConfig.model_validate({**settings, "url": url, "model": model})
    except ValidationError as error:
        raise ConfigError(explain(error, ServerConfig, under="server")) from error
    return Contender(text, model, "server", (), server)
