"""A finished run as something to export: its recipe, model, adapter, tokenizer and figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import GenerationConfig

from palate.config import RunConfig, load_config
from palate.durable import Damaged, verify_folder
from palate.losses.method import Method
from palate.losses.registry import method_of
from palate.model.load import end_ids, load_config_only, load_tokenizer, quiet_transformers
from palate.records import Example
from palate.store.snapshot import Manifest, read_snapshot
from palate.tokens.render import Renderer
from palate.train.folder import Plan, read_plan
from palate.train.setup import make_renderer


@dataclass(frozen=True, slots=True)
class Source:
    """What a finished run's folder holds.

    `adapter` is None where every weight was trained. `end_ids` end an answer, the chat
    template's own first. `system` is the system prompt that all training examples share.
    """

    folder: Path
    config: RunConfig
    method: Method
    results: dict[str, Any]
    manifest: Manifest
    train: list[Example]
    heldout: list[Example]
    plan: Plan | None
    tokenizer: Any
    model_config: Any
    end_ids: tuple[int, ...]
    renderer: Renderer
    adapter: Path | None
    system: str | None

    @property
    def model(self) -> Path:
        """The folder of the merged or fully trained model, as the run wrote it."""
        return self.folder / "model"

    @property
    def scores(self) -> bool:
        """Whether the model is a classifier, which scores and writes nothing."""
        return self.method.head == "scalar"


def open_source(folder: Path) -> Source:
    """Read a run's folder; raises `ValueError` for one that is unfinished or damaged."""
    quiet_transformers()
    results = _results(folder)
    for part in ("model", "adapter"):
        if (folder / part).is_dir():
            try:
                verify_folder(folder / part)
            except Damaged as error:
                raise ValueError(f"{error}: train the run again, or bring the file back") from error
    config = load_config(folder / "config.yaml")
    method, _ = method_of(config)
    place, trust = str(folder / "model"), config.model.trust_remote_code
    tokenizer, _ = load_tokenizer(place, trust_remote_code=trust)
    model_config = load_config_only(place, trust_remote_code=trust)
    ends = end_ids(tokenizer, SimpleNamespace(generation_config=_generation(folder / "model")))
    snapshot = read_snapshot(folder / "snapshot")
    return Source(
        folder=folder,
        config=config,
        method=method,
        results=results,
        manifest=snapshot.manifest,
        train=snapshot.train,
        heldout=snapshot.heldout,
        plan=read_plan(folder),
        tokenizer=tokenizer,
        model_config=model_config,
        end_ids=ends,
        renderer=make_renderer(config, tokenizer, ends, model_config),
        adapter=folder / "adapter" if (folder / "adapter").is_dir() else None,
        system=_shared_system(snapshot.train),
    )


def _results(folder: Path) -> dict[str, Any]:
    """What results.json says; it is written last, so a run without it is not finished."""
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = None
    except ValueError as error:
        raise ValueError(f"{folder / 'results.json'} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or not (folder / "model" / "config.json").is_file():
        raise ValueError(
            f"the run {folder} is not finished, so there is nothing to export: continue it with "
            f"palate train {folder / 'config.yaml'} resume=auto"
        )
    return found


def _generation(model: Path) -> Any:
    try:
        return GenerationConfig.from_pretrained(model)
    except OSError:  # a classifier has none
        return None


def _shared_system(examples: list[Example]) -> str | None:
    """The system prompt that all of the examples begin with, if they have one and the same."""
    found = {
        e.prompt[0].content if e.prompt and e.prompt[0].role in {"system", "developer"} else None
        for e in examples
    }
    return found.pop() if len(found) == 1 else None
