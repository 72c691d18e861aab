"""`palate doctor RECIPE --ranks N`: what GPUs would need that are not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PROMPTS, write_pairs
from tests.model.test_cost import SMALL
from typer.testing import Result

from palate.cli.renting import Way
from palate.config import AdapterConfig
from palate.model.cost import Work
from palate.model.sharding import division, rank_memory
from palate.model.traffic import Traffic
from palate.records import canonical_json

Palate = Callable[..., Result]
GIB = 2**30
FULL = AdapterConfig(kind="full")


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    settings = {
        "model": str(tiny_model_folder),
        "data": {"path": str(write_pairs(tmp_path / "pairs.jsonl")), "heldout": 0.2},
        "adapter": {"kind": "full"},
        "train": {"batch_size": 4, "precision": "fp32"},
    }
    path.write_text(canonical_json(settings), encoding="utf-8")
    return path


def asked(palate: Palate, *words: Any) -> dict[str, Any]:
    done = palate("doctor", *words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)["ranks"]
    return found


def test_each_way_of_sharing_is_estimated(palate: Palate, recipe: Path) -> None:
    """The tiny model of tests/tiny.py has 2·(9216 + 64) + 32 + 272·32 = 27,296 weights."""
    found = asked(palate, recipe, "--ranks", "4", "--memory", "24")
    assert (found["parameters"], found["trained"]) == (27_296, 27_296)
    assert found["examples"] == PROMPTS - 2
    ways = {way["parallel"]: way for way in found["ways"]}
    assert set(ways) == {"ddp", "fsdp"}, "hybrid is for more than one machine"
    assert ways["ddp"]["memory"]["weights"] == 4 * 27_296
    assert ways["fsdp"]["memory"]["weights"] == 27_296
    assert ways["fsdp"]["memory"]["moments"] == 2 * 27_296
    # One sum of all gradients, in a ring of four: 2·(3/4)·4 bytes each.
    assert ways["ddp"]["sent"] == {"inside": 6 * 27_296, "between": 0}
    assert ways["ddp"]["memory"]["loading"] == 4 * 27_296
    assert ways["fsdp"]["memory"]["loading"] < 2 * 27_296 + 4 * 272 * 16
    assert ways["fsdp"]["memory"]["host"] == 4 * 27_296
    assert found["fits"]
    assert found["verdict"].startswith("train.parallel=ddp: FITS: about ")


def test_over_machines_some_is_sent_to_others(palate: Palate, recipe: Path) -> None:
    """Of a ring over two machines of two ranks, half of the links leave a machine."""
    found = asked(palate, recipe, "--ranks", "4", "--machine", "2")
    sent = next(way["sent"] for way in found["ways"] if way["parallel"] == "ddp")
    assert sent == {"inside": 3 * 27_296, "between": 3 * 27_296}
    assert "say with --memory how much" in found["verdict"]
    assert found["idle"] == 0
    assert asked(palate, recipe, "--ranks", "16")["idle"] == 12, "of 16 ranks 4 have an example"


def test_in_words(palate: Palate, recipe: Path) -> None:
    done = palate("doctor", recipe, "--ranks", "8", "--memory", "0.5", "train.parallel=fsdp")
    assert done.exit_code == 0, done.output
    assert "needs on 8 GPUs of 0.5 GB (rough estimates)" in done.stdout
    assert "! 4 ranks have nothing to do: a step has 4 examples" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("train.parallel=fsdp: DOES NOT FIT: about 2.0 GiB at the peak of a step")
    assert "adapter.kind=lora, or a smaller model" in last


def test_a_live_reference_is_refused_where_weights_are_divided(
    palate: Palate, recipe: Path
) -> None:
    found = asked(palate, recipe, "--ranks", "2", "--memory", "24", "train.reference=live")
    ways = {way["parallel"]: way for way in found["ways"]}
    assert ways["ddp"]["memory"]["reference"] == 4 * 27_296
    assert ways["fsdp"]["memory"]["reference"] == 0
    assert not ways["fsdp"]["fits"]
    assert ways["fsdp"]["verdict"].startswith("REFUSED: a reference that is computed at every")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--ranks asks what a recipe needs: give its file"),
        (
            ("RECIPE", "adapter=lora", "model.quantize=nf4"),
            "model.quantize is not estimated for several ranks",
        ),
        (("RECIPE", "--machine", "3"), "4 ranks are not a whole number of machines of 3"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    words: tuple[str, ...], said: str, palate: Palate, recipe: Path
) -> None:
    done = palate("doctor", *(recipe if w == "RECIPE" else w for w in words), "--ranks", "4")
    assert done.exit_code == 2, done.output
    assert said in done.output


def way(room: float | None, **memory: float) -> Way:
    """A way whose step takes a GiB, and loading before it half of one."""
    parts = dict.fromkeys(("program", "weights", "gradients", "moments", "gathered"), 0.0)
    found = rank_memory(SMALL, Work(), FULL, "fp32", division("fsdp", 4, 4))
    found = replace(
        found, **{**parts, "unreduced": 0.0, "weights": GIB, "loading": GIB / 2, **memory}
    )
    return Way("fsdp", 8192, False, found, 1, Traffic(), room)


def test_verdicts() -> None:
    assert way(2 * GIB).verdict == "FITS: about 1.0 GiB at the peak of a step, 2 GiB each"
    assert way(1.2 * GIB).verdict.startswith("TIGHT: ")
    assert way(0.9 * GIB).verdict.startswith("DOES NOT FIT: about 1.0 GiB")
    whole = way(2 * GIB, loading=3 * GIB)
    assert not whole.fits
    assert "but each rank first takes 3.0 GiB to load the model" in whole.verdict
