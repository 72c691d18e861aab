"""What `palate data …` looks at: a snapshot, a run, a recipe, a store, or files of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palate.config import ConfigError, DataConfig, RunConfig, load_config

if TYPE_CHECKING:
    from palate.curate.funnel import Funnel
    from palate.records import Example, Reject
    from palate.store.snapshot import Manifest


@dataclass(frozen=True, slots=True)
class Target:
    """Examples, and what is known of how they came about.

    `folder` is the snapshot's, where there is one; `run` the run's folder. Of what was not split
    all is `train`.
    """

    name: str
    train: list[Example]
    heldout: list[Example]
    rejects: list[Reject]
    funnel: Funnel | None = None
    manifest: Manifest | None = None
    folder: Path | None = None
    run: Path | None = None
    config: RunConfig | None = None

    @property
    def examples(self) -> list[Example]:
        """Both sides."""
        return [*self.train, *self.heldout]


def open_target(target: str, overrides: Sequence[str] = (), shape: str | None = None) -> Target:
    """The examples of whatever the words name; `ConfigError` with what they could name.

    A recipe is prepared as training would, rows that are too long for its model left out. A store
    and files give what can be learned from as it is, or as `shape` where that is given.
    """
    from palate.store.database import is_store

    path = Path(target).expanduser()
    if (path / "manifest.json").is_file():
        return _snapshot(path)
    if (path / "config.yaml").is_file():
        return _run(path)
    if path.suffix in {".yaml", ".yml"}:
        return _recipe(path, overrides)
    if overrides:
        raise ConfigError(f"settings are for recipes, and {target} is none")
    if not is_store(target) and not target.startswith("hub:") and not path.exists():
        raise ConfigError(
            f"there is no {target}: name a snapshot's folder, a run's folder, a recipe, a store "
            "(palate.db) or a file of rows"
        )
    return _places(target, shape)


def _snapshot(folder: Path, run: Path | None = None) -> Target:
    from palate.curate.funnel import Funnel
    from palate.store.snapshot import read_snapshot

    found = read_snapshot(folder)
    funnel = Funnel.from_dict(found.manifest.funnel) if found.manifest.funnel else None
    return Target(
        str(run or folder),
        found.train,
        found.heldout,
        found.rejects,
        funnel,
        found.manifest,
        folder,
        run,
    )


def _run(folder: Path) -> Target:
    from palate.cli.runs import run_folder

    place = run_folder(folder)
    if not (place / "snapshot" / "manifest.json").is_file():
        raise ConfigError(f"the run {place} has no data yet: it stopped before they were prepared")
    return _snapshot(place / "snapshot", place)


def _recipe(path: Path, overrides: Sequence[str]) -> Target:
    from palate.curate.prepare import prepare
    from palate.losses.registry import method_of
    from palate.store.judged import reader_of
    from palate.train.setup import renderer_without_weights

    config = load_config(path, overrides)
    method, _ = method_of(config)
    renderer = renderer_without_weights(config)
    found = prepare(
        config.data,
        config.seed,
        check=lambda example: renderer.check(example, method.data),
        shape=method.data,
        read=reader_of(method.data),
    )
    return Target(str(path), found.train, found.heldout, found.rejects, found.funnel, config=config)


def _places(target: str, shape: str | None) -> Target:
    """A store, or files: the pairs if there are any, else what else can be learned from."""
    from palate.curate.prepare import prepare
    from palate.ingest import IngestError
    from palate.store.judged import read_judged

    config = DataConfig(path=target, heldout=0)
    shapes = [shape] if shape else ["pair", "labelled", "demonstration", "text"]
    for number, wanted in enumerate(shapes, 1):
        try:
            found = prepare(config, 0, shape=wanted, read=read_judged)  # type: ignore[arg-type]
        except IngestError:
            if number == len(shapes):
                raise
            continue
        return Target(target, found.train, found.heldout, found.rejects, found.funnel)
    raise AssertionError
