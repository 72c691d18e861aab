"""`palate judge`: verdicts into a store, once, and what people say beside them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.judge.chat_server import ChatServer, Handler, chat_server, judge_by, says, status
from typer.testing import Result

from palate.cli import filling
from palate.cli.judging import judge_config
from palate.config import ConfigError, DataConfig
from palate.curate.prepare import prepare
from palate.store.database import Store
from palate.store.judged import read_judged
from palate.store.reading import stored

Palate = Callable[..., Result]
COLUMNS = "columns:prompt=q,completion=a,completion=b,vote=v1,vote=v2,vote=v3"


def row(number: int, a: str, b: str, votes: str = "000") -> dict[str, Any]:
    """Two answers and the votes of three people, of whom 0 says neither."""
    asked = {"q": f"Question {number}?", "a": f"{a} {number}", "b": f"{b} {number}"}
    return asked | {f"v{n}": int(vote) for n, vote in enumerate(votes, 1)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pairs with votes; people disagree with the word "good" in one."""
    monkeypatch.chdir(tmp_path)
    rows = [
        row(0, "good", "poor", "111"),
        row(1, "poor", "good", "222"),
        row(2, "good", "poor", "112"),
        row(3, "poor", "good", "220"),
        row(4, "good", "poor", "222"),
        row(5, "poor", "good", "222"),
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def at(server: ChatServer, **more: Any) -> list[str]:
    """The settings of a judge at the server that loses no time."""
    place = {"url": server.url, "model": "m", "retries": 0, **more}
    return ["kind=llm", *(f"server.{name}={value}" for name, value in place.items())]


def test_pairs_are_compared_once_and_agree_with_people(palate: Palate, server: ChatServer) -> None:
    first = palate("judge", "pairs.jsonl", *at(server), "--format", COLUMNS, "--json")
    assert first.exit_code == 0, first.output
    facts = json.loads(first.stdout)
    assert (facts["store"], facts["judge"]) == ("pairs.judged.db", "judge/llm:m")
    assert (facts["items"], facts["judged"], facts["ties"], facts["known"]) == (6, 6, 0, 0)
    assert facts["spent"]["requests"] == 12
    (both,) = facts["agreement"]
    assert sorted(both["between"]) == ["the data's votes", "the judge"]
    # Five of six. People: 2 firsts, 4 seconds; the judge: 3 and 3: p_e = 1/6 + 2/6 = 1/2.
    assert (both["pairs"], both["agreement"]) == (6, pytest.approx(5 / 6))
    assert both["kappa"] == pytest.approx((5 / 6 - 1 / 2) / (1 / 2))
    again = palate("judge", "pairs.judged.db", *at(server), "--json")
    facts = json.loads(again.stdout)
    assert (facts["judged"], facts["known"]) == (0, 6)
    assert len(server.requests) == 12
    assert facts["agreement"] == [both]


def test_what_is_kept_of_a_verdict(palate: Palate, server: ChatServer, home: Path) -> None:
    assert palate("import", "pairs.jsonl", "--format", COLUMNS).exit_code == 0
    server.plan = [says("A"), says("A")]
    assert palate("judge", "palate.db", *at(server, concurrency=1)).exit_code == 0
    with Store.open(home / "palate.db", create=False) as store:
        said = [s for one in stored(store) for s in one.signals if s.judged]
    tie, *votes = sorted(said, key=lambda signal: signal.kind)
    assert (tie.kind, tie.choice, tie.over, tie.strength) == ("tie", 0, 1, None)
    assert json.loads(tie.comment or "")["raw"] == ["A", "A"]
    assert {(v.kind, v.strength, v.by, v.name) for v in votes} == {
        ("vote", 1.0, "judge/llm:m", "judge/llm:m")
    }
    assert len(json.loads(votes[0].comment or "")["judge"]) == 32


def test_the_summary(palate: Palate, server: ChatServer) -> None:
    server.plan = [says("Well, A."), says("A")]
    result = palate("judge", "pairs.jsonl", *at(server, concurrency=1), "--format", COLUMNS)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert "judge/llm:m on pairs.judged.db" in lines
    assert "judged 5 pairs, of which 0 ties" in lines
    assert "failed 1 no verdict but 'Well, A.'" in lines
    assert any(line.startswith("requests 12 0 retries, 0 from the cache, 1,200") for line in lines)
    assert any(line.startswith("the data's votes and the judge 5 ") for line in lines)
    facts = json.loads(palate("judge", "pairs.judged.db", *at(server), "--json").stdout)
    assert (facts["judged"], facts["known"], facts["failures"]) == (1, 5, {})


def test_a_judge_that_stops_leaves_what_it_said(
    palate: Palate, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "CHUNK", 2)
    server.plan = [judge_by("good")] * 8
    server.otherwise = status(401)
    settings = at(server, concurrency=1)
    stopped = palate("judge", "pairs.jsonl", *settings, "--format", COLUMNS, "--json")
    assert stopped.exit_code == 2
    assert "the key is refused" in stopped.stderr.splitlines()[-1]
    assert json.loads(stopped.stdout)["judged"] == 4
    server.otherwise = judge_by("good")
    facts = json.loads(palate("judge", "pairs.judged.db", *settings, "--json").stdout)
    assert (facts["judged"], facts["known"]) == (2, 4)


@pytest.mark.slow
def test_a_killed_pass_goes_on(palate: Palate, server: ChatServer, home: Path) -> None:
    """Killed while the server hangs in the second chunk: the first one's verdicts are there."""
    rows = [row(number, "good", "poor") for number in range(filling.CHUNK + 3)]
    (home / "many.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    columns = "columns:prompt=q,completion=a,completion=b"
    hangs, honest = threading.Event(), judge_by("good")

    def hang(handler: Handler) -> None:
        hangs.set()
        handler.server.over.wait()

    server.plan = [honest] * (2 * filling.CHUNK)
    server.otherwise = hang
    words = ["judge", "many.jsonl", *at(server, concurrency=1), "--format", columns, "--json"]
    command = [sys.executable, "-m", "palate.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        assert hangs.wait(120)
        one.kill()
    server.otherwise = honest
    facts = json.loads(palate(*words).stdout)
    assert (facts["known"], facts["judged"], facts["items"]) == (filling.CHUNK, 3, len(rows))


def test_another_judge_is_asked_anew_and_limits_hold(palate: Palate, server: ChatServer) -> None:
    run = ("judge", "pairs.jsonl", *at(server), "--format", COLUMNS, "--json")
    assert json.loads(palate(*run, "--limit", "2").stdout)["judged"] == 2
    assert json.loads(palate(*run, "--limit", "3").stdout)["judged"] == 3
    assert json.loads(palate(*run).stdout)["judged"] == 1
    assert json.loads(palate(*run, "rubric=Brief").stdout)["judged"] == 6


def test_rules_score_every_answer(palate: Palate, home: Path) -> None:
    facts = json.loads(
        palate(
            "judge", "pairs.jsonl", "kind=regex", "pattern=good", "--format", COLUMNS, "--json"
        ).stdout
    )
    assert (facts["asked"], facts["judged"], facts["agreement"]) == ("scores", 12, [])
    with Store.open(home / "pairs.judged.db", create=False) as store:
        scores = [s for one in stored(store) for s in one.signals if s.kind == "score"]
    assert sorted(s.score or 0 for s in scores) == [0.0] * 6 + [1.0] * 6


def test_pairs_of_a_judge_train_where_people_said_nothing(
    palate: Palate, server: ChatServer, home: Path
) -> None:
    """People's votes stay; a pair without any is the judge's."""
    fresh = {"q": "New?", "a": "good new", "b": "poor new", "v1": None}
    rows = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    plain = "columns:prompt=q,completion=a,completion=b"
    (home / "fresh.jsonl").write_text(json.dumps(fresh) + "\n")
    assert len(rows) == 6
    assert palate("import", "pairs.jsonl", "--format", COLUMNS).exit_code == 0
    assert palate("import", "fresh.jsonl", "--format", plain).exit_code == 0
    assert palate("judge", "palate.db", *at(server)).exit_code == 0
    found = prepare(DataConfig(path="palate.db", heldout=0), 0, read=read_judged)
    by = {example.chosen.text: (example.verdict and example.verdict.by) for example in found.train}
    assert by == {
        "good 0": "vote",
        "good 1": "vote",
        "good 2": "vote",
        "good 3": "vote",
        "poor 4": "vote",  # people overrule the judge
        "good 5": "vote",
        "good new": "judge/llm:m",
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["palate.db", "--judge", "number"], "there is no store"),
        (["none.jsonl", "--judge", "number"], "there is no none.jsonl"),
        (["pairs.jsonl", "--judge", "numbr"], "did you mean 'number'"),
        (["pairs.jsonl", "--judge", "none.yaml"], "cannot read the judge none.yaml"),
        (["pairs.jsonl", "--judge", "number", "--ask", "all"], "--ask is pairs, scores or auto"),
        (["pairs.jsonl"], "a judge of kind rule needs rule"),
        (["pairs.jsonl", "kind=llm", "server.modle=m"], "did you mean 'model'"),
        (["pairs.jsonl", "kind=llm", "server.model=m"], "'server.url' is missing"),
    ],
)
def test_mistakes_are_one_line(palate: Palate, words: list[str], line: str) -> None:
    result = palate("judge", *words, "--format", COLUMNS)
    assert result.exit_code == 2
    assert line in result.stderr.splitlines()[-1]


def test_single_answers_cannot_be_compared(palate: Palate, home: Path) -> None:
    (home / "one.jsonl").write_text(json.dumps({"q": "Q?", "a": "A."}) + "\n")
    words = ("judge", "one.jsonl", "--format", "columns:prompt=q,completion=a")
    result = palate(*words, "--judge", "number", "--ask", "pairs")
    assert result.exit_code == 2
    assert "use --ask scores" in result.stderr.splitlines()[-1]


def test_a_judge_of_a_file(home: Path) -> None:
    (home / "judge.yaml").write_text("kind: length\nmost: 10\n")
    assert judge_config("judge.yaml", ["most=20"]).most == 20
    assert judge_config("rules.py:house").rule == "rules.py:house"
    (home / "judge.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="must be a mapping"):
        judge_config("judge.yaml")
