"""`palate data trace --json`: examples as tokens, each with its text, its mask and its segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from palate.cli.runs import run_config, run_folder
from palate.config import ConfigError, DataConfig, RunConfig, build_config
from palate.records import Example, Reject

if TYPE_CHECKING:
    from pathlib import Path

    from palate.cli.journey import Journey
    from palate.store.reading import Stored
    from palate.tokens.render import Rendered, Renderer
    from palate.tokens.tree import Branch, Forest

Facts = dict[str, Any]
_NAMES = {"pair": ("chosen", "rejected"), "prompt": ("prompt",)}
_MOST = 8  # examples of one interaction that are told


@dataclass(frozen=True, slots=True)
class _Placed:
    """An example, and where in the run's snapshot it stands, if it does."""

    example: Example
    place: str | None = None


def run_facts(journey: Journey) -> Facts:
    """The example of a run, as `interaction_facts` tells those of an interaction."""
    placed = _Placed(journey.example, f"{journey.side}:{journey.index}")
    shape, renderer = journey.method.data, journey.renderer
    return {
        "interaction": None,
        "model": journey.config.model.path,
        "run": str(journey.folder),
        "shape": shape,
        "limit": renderer.max_length,
        "examples": [_facts(placed, shape, renderer)],
        "left_out": [],
    }


def interaction_facts(db: str, key: str, run: str | None, model: str | None) -> Facts:
    """What a run, or a model, sees of an interaction of the store; JSON-ready.

    With a run: the examples of its snapshot that the interaction is part of, else what its recipe
    would make of it. With a model: what training makes of it, pairs if there are any. Raises
    `ValueError` with the cure.
    """
    from palate.store.database import Store
    from palate.store.reading import find

    with Store.open(db, create=False) as store:
        one = find(store, key)
    if run is not None:
        config = run_config(run_folder(run))
        placed, shape, rejects = _of_run(one, run_folder(run), config)
    else:
        config = build_config({"model": model, "data": db})
        placed, shape, rejects = _of_model(one, config)
    renderer = _renderer(config)
    facts = [_facts(item, shape, renderer) for item in placed[:_MOST]]
    return {
        "interaction": one.id,
        "model": config.model.path,
        "run": run,
        "shape": shape,
        "limit": renderer.max_length,
        "examples": facts,
        "left_out": [{"reason": r.reason, "detail": r.detail} for r in rejects],
    }


def example_facts(rendered: Rendered, names: Sequence[str], tokenizer: Any) -> Facts:
    """A rendered example: its prompt and its answers as tokens, and its segments as a tree.

    ``ids``, ``texts``, ``trained`` and ``segments`` of a part are parallel. A character of several
    tokens stands with the last of them, the others have an empty text. ``begin`` is the position of
    the part's first token.
    """
    from palate.tokens.tree import build_forest

    forest = build_forest(rendered.branches)
    prompt = rendered.prompt_length
    first = rendered.branches[0]
    parts = [_part("prompt", first, 0, prompt, tokenizer, _segments(forest, 0))]
    for number, (name, branch) in enumerate(zip(names, rendered.branches, strict=True)):
        if prompt < len(branch.ids):
            path = _segments(forest, number)
            parts.append(_part(name, branch, prompt, len(branch.ids), tokenizer, path))
    return {
        "parts": parts,
        "path_tokens": forest.path_tokens,
        "unique_tokens": forest.unique_tokens,
        "segments": [
            {"parent": s.parent, "length": s.length, "position": s.position}
            for s in forest.segments
        ],
    }


def _part(
    name: str, branch: Branch, begin: int, end: int, tokenizer: Any, path: Sequence[int]
) -> Facts:
    mask = [bool(value) for value in branch.mask[begin:end]]
    return {
        "name": name,
        "begin": begin,
        "ids": [int(token) for token in branch.ids[begin:end]],
        "texts": _texts(branch, begin, end, tokenizer),
        "trained": mask,
        "segments": list(path[begin:end]),
    }


def _texts(branch: Branch, begin: int, end: int, tokenizer: Any) -> list[str]:
    """The text of each token; control characters out, as in the terminal."""
    from palate.generate.stream import TextStream, printable

    found: list[str] = []
    for _, group in groupby(range(begin, end), key=lambda at: bool(branch.mask[at])):
        stream = TextStream(tokenizer, skip_special=False)
        pieces = [printable(stream.add(int(branch.ids[at]))) for at in group]
        pieces[-1] += printable(stream.finish())
        found += pieces
    return found


def _segments(forest: Forest, branch: int) -> list[int]:
    """For each position of a branch's path, the segment that it lies in."""
    row = int(forest.last_B[branch])
    at = next(n for n, s in enumerate(forest.segments) if s.start <= row < s.end)
    path: list[int] = []
    while at >= 0:
        segment = forest.segments[at]
        path = [at] * segment.length + path
        at = segment.parent
    return path


def _facts(item: _Placed, shape: str, renderer: Renderer) -> Facts:
    from palate.tokens.render import Unusable

    example = item.example
    verdict = example.verdict
    facts: Facts = {
        "id": example.id,
        "place": item.place,
        "by": verdict.by if verdict else None,
        "label": example.completions[0].label if shape == "labelled" else None,
        "problem": "",
    }
    try:
        (rendered,) = renderer.render_as(example, shape)
    except Unusable as error:
        return {**facts, "problem": f"{error.reason}: {error.detail}", "parts": []}
    names = _NAMES.get(shape, ("answer",) * len(rendered.branches))
    return {**facts, **example_facts(rendered, names, renderer.tokenizer)}


def _renderer(config: RunConfig) -> Renderer:
    from palate.train.setup import renderer_without_weights

    return renderer_without_weights(config)


def _of_run(
    one: Stored, folder: Path, config: RunConfig
) -> tuple[list[_Placed], str, tuple[Reject, ...]]:
    """The snapshot's examples that hold a row of the interaction; else what the recipe makes."""
    from palate.losses.registry import method_of
    from palate.store.snapshot import read_snapshot

    method, _ = method_of(config)
    if method.shape == "text":
        raise ConfigError(f"{folder} learns from plain text, which has no mask to show")
    place = folder / "snapshot"
    hashes = {p.hash for p in one.example.provenance if p.hash}
    if (place / "manifest.json").is_file():
        data = read_snapshot(place)
        sides = (("train", data.train), ("heldout", data.heldout))
        found = [
            _Placed(example, f"{side}:{number}")
            for side, part in sides
            for number, example in enumerate(part)
            if any(p.hash in hashes for p in example.provenance)
        ]
        if found:
            return found, method.data, ()
    made, rejects = _prepared(one, config.data, method.data)
    return made, method.data, rejects


def _of_model(one: Stored, config: RunConfig) -> tuple[list[_Placed], str, tuple[Reject, ...]]:
    rejects: tuple[Reject, ...] = ()
    for shape in ("pair", "labelled", "demonstration"):
        made, rejects = _prepared(one, config.data, shape)
        if made:
            return made, shape, ()
    return [], "demonstration", rejects


def _prepared(
    one: Stored, data: DataConfig, shape: str
) -> tuple[list[_Placed], tuple[Reject, ...]]:
    """What the recipe makes of this interaction alone."""
    from palate.curate.prepare import prepare
    from palate.curate.signals import Judged
    from palate.ingest import IngestError

    judged = Judged(one.example, one.signals)
    alone = data.model_copy(
        update={"heldout": 0, "heldout_values": None, "split_by": "prompt", "max_pairs": None}
    )
    try:
        found = prepare(alone, 0, shape=shape, read=lambda _data, _reject: [judged])  # type: ignore[arg-type]
    except IngestError as error:
        return [], tuple(error.rejects)
    return [_Placed(example) for example in found.train], tuple(found.rejects)
