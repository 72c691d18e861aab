"""From settings to judges, and what makes two judges the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.judge.worlds import answered, example, question

from palate.judge import build
from palate.judge.build import build_pair_judge, build_scorer, identity
from palate.judge.errors import JudgeStopped
from palate.judge.opinion import Answered, Opinion, Question, Score
from palate.sections import JudgeConfig, judging


def _judge(**settings: Any) -> JudgeConfig:
    return JudgeConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "good", "bad"),
    [
        ({"kind": "regex", "pattern": "now"}, "now", "later"),
        ({"kind": "regex", "pattern": "now", "absent": True}, "later", "now"),
        ({"kind": "length", "most": 2}, "one two", "one two three"),
        ({"kind": "number"}, "it is 7", "it is 8"),
        ({"kind": "schema", "json_schema": {"type": "array"}}, "[]", "{}"),
    ],
)
def test_every_kind_scores_and_compares(settings: dict[str, Any], good: str, bad: str) -> None:
    about = example("How many?", "#### 7")
    with build_scorer(_judge(**settings)) as judge:
        assert [s.passed for s in judge.score([answered(t, about=about) for t in (good, bad)])] == [
            True,
            False,
        ]
    with build_pair_judge(_judge(**settings)) as pairs:
        (opinion,) = pairs.compare([Question(about, bad, good)])
    assert opinion.first_wins == 0.0


def test_a_text_is_a_rule(tmp_path: Path) -> None:
    path = tmp_path / "house.py"
    path.write_text("def short(prompt, answer):\n    return len(answer) < 5\n")
    config = JudgeConfig.model_validate(f"{path}:short")
    assert config.label == "rule:short"
    scores = build_scorer(config).score([answered("yes"), answered("certainly")])
    assert [s.value for s in scores] == [1.0, 0.0]
    path.write_text("def short(prompt, answer):\n    return 1 / 0\n")
    with pytest.raises(JudgeStopped, match="failed on an answer: ZeroDivisionError"):
        build_scorer(config).score([answered("yes")])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kind": "regx"}, "no judge is of kind 'regx'; did you mean 'regex'"),
        ({"kind": "xyz"}, "valid: rule, regex, schema, length, number, reward, implicit, llm"),
        ({"kind": "regex"}, "a judge of kind regex needs pattern"),
        ({"kind": "llm"}, "a judge of kind llm needs server"),
        ({"kind": "rule", "rule": "a:b", "most": 3}, "of kind rule has rule, and no most"),
        ({"kind": "number", "options": {"x": 1}}, "has answer_from, and no options"),
        ({"kind": "length"}, "needs least, most or both"),
        ({"kind": "length", "least": 3, "most": 2}, "at least 3 and at most 2 words"),
        ({"kind": "number", "answer_from": "tag:"}, "`reference` or `tag:NAME`"),
        ({"kind": "number", "answer": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_judge(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _judge(**settings)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({"url": "localhost:8000"}, "must begin with http:// or https://"),
        ({"url": "https://me:pw@host/v1"}, "no key, query or fragment belongs into the url"),
        ({"url": "https://host/v1?key=1"}, "no key, query or fragment belongs into the url"),
        ({"url": "http://host/v1", "extra": {"n": 2}}, "extra may not set n"),
        ({"url": "http://host/v1", "max_cost": 1.0}, "max_cost needs price_in and price_out"),
    ],
)
def test_servers_that_cannot_be(server: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _judge(kind="llm", server={"model": "m", **server})
    assert problem in str(caught.value)


def test_settings_survive_being_written_out() -> None:
    config = _judge(kind="llm", server={"url": "http://h/v1/chat/completions", "model": "m"})
    assert config.server is not None
    assert config.server.url == "http://h/v1"
    assert JudgeConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert config.label == "llm:m"


def test_a_judge_is_the_same_by_what_decides_its_verdicts(tmp_path: Path) -> None:
    server = {"url": "http://h/v1", "model": "m"}
    base = identity(_judge(kind="llm", server=server))
    assert identity(_judge(kind="llm", server={**server, "retries": 1}, name="x")) == base
    assert identity(_judge(kind="llm", server={**server, "model": "n"})) != base
    assert identity(_judge(kind="llm", server=server, rubric="Short.")) != base
    assert identity(_judge(kind="llm", server={**server, "extra": {"top_p": 0.5}})) != base
    rule = tmp_path / "house.py"
    rule.write_text("def short(prompt, answer):\n    return True\n")
    before = identity(JudgeConfig.model_validate(f"{rule}:short"))
    assert identity(JudgeConfig.model_validate(f"{rule}:short")) == before
    rule.write_text("def short(prompt, answer):\n    return False\n")
    assert identity(JudgeConfig.model_validate(f"{rule}:short")) != before
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "array"}')
    by_path = _judge(kind="schema", json_schema=str(schema))
    assert identity(by_path) == identity(_judge(kind="schema", json_schema={"type": "array"}))
    schema.write_text('{"type": "object"}')
    assert identity(by_path) != identity(_judge(kind="schema", json_schema={"type": "array"}))


class Coin:
    """Another package's judge: knows pairs only, and says what its settings say."""

    name = "coin"

    def __init__(self, config: JudgeConfig) -> None:
        self.says: Any = config.options["says"]
        self.closed = False

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        if self.says == "raise":
            raise ConnectionError("away")
        return [Opinion(self.says)] * (1 if self.says == "short" else len(questions))

    def close(self) -> None:
        self.closed = True


class Flat:
    """Another one, which scores."""

    name = "flat"

    def __init__(self, config: JudgeConfig) -> None:
        pass

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        return [Score(1.0) for _ in answers]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed packages that bring judges, and one that brings something else."""
    points = [
        EntryPoint("coin", f"{__name__}:Coin", "palate.judges"),
        EntryPoint("flat", f"{__name__}:Flat", "palate.judges"),
        EntryPoint("none", "builtins:str", "palate.judges"),
        EntryPoint("gone", "palate.no_such_module:x", "palate.judges"),
    ]
    classes = {"coin": Coin, "flat": Flat}
    monkeypatch.setattr(
        EntryPoint, "load", lambda self: classes.get(self.name) or _load(self.value)
    )
    for module in (build, judging):
        monkeypatch.setattr(module, "entry_points", lambda group: points)


def _load(value: str) -> Any:
    if value.startswith("palate.no"):
        raise ModuleNotFoundError(value)
    return str


@pytest.mark.usefixtures("others")
def test_judges_of_other_packages() -> None:
    ask = [question("a", "b"), question("c", "d")]
    with build_pair_judge(_judge(kind="coin", options={"says": 0.25})) as judge:
        assert [o.first_wins for o in judge.compare(ask)] == [0.25, 0.25]
    with build_pair_judge(_judge(kind="flat")) as flat:
        assert [o.first_wins for o in flat.compare(ask)] == [0.5, 0.5]
    assert build_scorer(_judge(kind="flat", name="mine")).name == "mine"
    with pytest.raises(ValueError, match="compares two answers, and scores none"):
        build_scorer(_judge(kind="coin", options={"says": 0.25}))


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kind": "coin", "options": {"says": 1.5}}, "P = 1.5: no probability"),
        ({"kind": "coin", "options": {"says": "short"}}, "was asked 2 times and must return"),
        ({"kind": "coin", "options": {"says": "raise"}}, "'coin' failed: ConnectionError: away"),
        ({"kind": "coin"}, "cannot be made: KeyError: 'says'"),
        ({"kind": "none"}, "is neither a Scorer nor a PairJudge"),
        ({"kind": "gone"}, "cannot be made: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_another_packages_judge(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build_pair_judge(_judge(**settings)).compare([question("a", "b"), question("c", "d")])
