"""`palate data trace --json`: tokens, masks and segments, of a run's example and of a store's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import SYSTEM
from tests.store.arrivals import chat, signal
from typer.testing import Result

from palate.store.database import Store
from palate.store.reading import stored
from palate.store.snapshot import read_snapshot

Palate = Callable[..., Result]
# One token a byte: "<|start|>user\nHi?<|end|>\n<|start|>assistant\n" is 1+4+1+3+1+1 and 1+9+1.
PROMPT = 11 + 11


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store with a vote, a lone thumb, and an answer of which nothing is known."""
    with Store.open(tmp_path / "palate.db") as store:
        store.add(
            [
                chat("Hi?", "Good é", "Bad", ids=("x:vote",)),
                chat("Hi?", "Up", ids=("x:thumb",), line=2),
                chat("Hi?", "So", ids=("x:plain",), line=3),
                signal("x:vote", "vote", choice=0, over=1, by="ann"),
                signal("x:thumb", "thumb", label=True, by="ben"),
            ],
            "log",
        )
    return tmp_path / "palate.db"


def told(palate: Palate, *words: object) -> Any:
    done = palate("data", "trace", *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def part(example: Any, name: str) -> Any:
    (found,) = [one for one in example["parts"] if one["name"] == name]
    return found


def test_a_vote_is_a_pair_whose_answers_are_trained(
    palate: Palate, db: Path, tiny_model_folder: Path
) -> None:
    found = told(palate, "x:vote", "--db", db, "--model", tiny_model_folder)
    assert (found["shape"], found["left_out"], found["run"]) == ("pair", [], None)
    (example,) = found["examples"]
    prompt, chosen = part(example, "prompt"), part(example, "chosen")
    assert len(prompt["ids"]) == PROMPT
    assert not any(prompt["trained"])
    # "Good " is five tokens, "é" two bytes of which the last shows it, and the end of the turn.
    assert chosen["texts"] == [*"Good ", "", "é", "<|end|>"]
    assert all(chosen["trained"])
    assert chosen["begin"] == PROMPT
    assert part(example, "rejected")["texts"] == [*"Bad", "<|end|>"]
    assert example["path_tokens"] == 2 * PROMPT + 8 + 4
    assert example["unique_tokens"] == PROMPT + 8 + 4
    # The prompt is segment 0, each answer one of its own below it.
    assert set(prompt["segments"]) == {0}
    below = [set(part(example, name)["segments"]) for name in ("chosen", "rejected")]
    assert sorted(below, key=min) == [{1}, {2}]
    assert [one["parent"] for one in example["segments"]] == [-1, 0, 0]


def test_what_is_no_pair_is_a_thumb_or_a_demonstration(
    palate: Palate, db: Path, tiny_model_folder: Path
) -> None:
    thumb = told(palate, "x:thumb", "--db", db, "--model", tiny_model_folder)
    assert (thumb["shape"], thumb["examples"][0]["label"]) == ("labelled", True)
    plain = told(palate, "x:plain", "--db", db, "--model", tiny_model_folder)
    assert plain["shape"] == "demonstration"
    assert part(plain["examples"][0], "answer")["texts"] == [*"So", "<|end|>"]


def test_a_run_that_has_not_learned_from_it_says_what_it_would_leave_out(
    palate: Palate, db: Path, finished_run: Path
) -> None:
    found = told(palate, "x:thumb", "--db", db, "--run", finished_run)
    assert found["examples"] == []
    assert [one["reason"] for one in found["left_out"]] == ["no-contrast"]
    pair = told(palate, "x:vote", "--db", db, "--run", finished_run)
    assert pair["examples"][0]["place"] is None


def test_a_run_that_has_learned_from_it_shows_its_own_example(
    palate: Palate, tmp_path: Path, finished_run: Path
) -> None:
    learned = read_snapshot(finished_run / "snapshot").train[3]
    with Store.open(tmp_path / "palate.db") as store:
        from palate.records import Arrival

        store.add([Arrival(learned, ("x:1",))], "log")
        (one,) = stored(store)
    found = told(palate, one.id, "--db", tmp_path / "palate.db", "--run", finished_run)
    (example,) = found["examples"]
    assert (example["place"], example["id"]) == ("train:3", learned.id)
    assert SYSTEM in "".join(part(example, "prompt")["texts"])


def test_an_example_of_a_run_as_json(palate: Palate, finished_run: Path) -> None:
    found = told(palate, "train:1", "--run", finished_run)
    example = read_snapshot(finished_run / "snapshot").train[1]
    (facts,) = found["examples"]
    assert (facts["place"], facts["id"], facts["by"]) == ("train:1", example.id, "file")
    assert "".join(part(facts, "rejected")["texts"]) == f"{example.rejected.text}<|end|>"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "m"), "give --db"),
        (("--model", "m", "--db", "d", "--run", "r"), "no --run"),
        (("--db", "none.db"), "there is no store none.db"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    words: tuple[str, ...],
    said: str,
    palate: Palate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = palate("data", "trace", "x", "--json", *words)
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_store_without_json_is_refused(palate: Palate, db: Path) -> None:
    done = palate("data", "trace", "x:vote", "--db", db)
    assert done.exit_code == 2
    assert "with --json" in done.output
