"""A model behind a server: both orders, soft verdicts, ratings, limits, the cache."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.judge.chat_server import ChatServer, Handler, chat_server, completion, judge_by, says
from tests.judge.worlds import answered, question

from palate.judge.build import build_pair_judge, build_scorer
from palate.judge.errors import JudgeStopped
from palate.judge.llm import LlmJudge
from palate.sections import JudgeConfig

GOOD_FIRST = question("a good answer", "a poor answer")
GOOD_SECOND = question("a poor answer", "a good answer")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def config(server: ChatServer, judge: dict[str, Any] | None = None, **more: Any) -> JudgeConfig:
    """A judge at the server that loses no time."""
    place = {"url": server.url, "model": "m", "concurrency": 1, "retries": 0, **more}
    return JudgeConfig.model_validate({"kind": "llm", "server": place, **(judge or {})})


def test_both_orders_are_asked_and_agree(server: ChatServer) -> None:
    with build_pair_judge(config(server)) as judge:
        opinions = judge.compare([GOOD_FIRST, GOOD_SECOND])
    assert [o.first_wins for o in opinions] == [1.0, 0.0]
    assert [o.raw for o in opinions] == [("A", "B"), ("B", "A")]
    assert server.paths == ["/v1/chat/completions"] * 4
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 16)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_only_sees_places_ties(server: ChatServer, place: str) -> None:
    server.otherwise = says(place)
    with build_pair_judge(config(server)) as judge:
        (opinion,) = judge.compare([GOOD_FIRST])
    assert opinion.first_wins == 0.5
    assert opinion.raw == (place, place)


def soft(a: float, b: float, letter: str = "A") -> Any:
    """A reply whose letter had these chances; the space before a letter is another token."""
    top = [("A", a / 2), (" A", a / 2), ("B", b), ("Both", 1 - a - b)]
    listed = [{"token": t, "logprob": math.log(p)} for t, p in top if p > 0]
    content = [{"token": letter, "logprob": math.log(max(a, b)), "top_logprobs": listed}]
    return says(letter, logprobs={"content": content})


def test_soft_verdicts_are_averaged_over_the_orders(server: ChatServer) -> None:
    server.plan = [soft(0.6, 0.2), soft(0.3, 0.3, "B")]
    with build_pair_judge(config(server)) as judge:
        (opinion,) = judge.compare([GOOD_FIRST])
    # P(A) = .6/.8 = 3/4 where the first stands first, P(B) = .3/.6 = 1/2 where it stands second.
    assert opinion.first_wins == pytest.approx((0.75 + 0.5) / 2)
    assert server.requests[0]["logprobs"] is True
    assert server.requests[0]["top_logprobs"] == 20


def test_a_mean_close_to_a_half_ties_where_that_is_wanted(server: ChatServer) -> None:
    server.plan = [soft(0.6, 0.2), soft(0.3, 0.3, "B")] * 2
    for tie, expected in ((0.12, 0.625), (0.13, 0.5)):
        with build_pair_judge(config(server, {"tie": tie})) as judge:
            (opinion,) = judge.compare([GOOD_FIRST])
        assert opinion.first_wins == pytest.approx(expected)


def test_log_probs_are_not_asked_for_or_read_when_hard(server: ChatServer) -> None:
    server.plan = [soft(0.6, 0.2), soft(0.2, 0.6, "B")]
    with build_pair_judge(config(server, {"soft": False})) as judge:
        (opinion,) = judge.compare([GOOD_FIRST])
    assert opinion.first_wins == 1.0
    assert "logprobs" not in server.requests[0]


def test_json_is_asked_for_under_a_schema(server: ChatServer) -> None:
    server.plan = [says('{"verdict": "A"}'), says('{"verdict": "B"}')]
    with build_pair_judge(config(server, {"reply": "json"})) as judge:
        (opinion,) = judge.compare([GOOD_FIRST])
    assert opinion.first_wins == 1.0
    asked = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert asked["properties"]["verdict"]["enum"] == ["A", "B"]
    assert asked["additionalProperties"] is False


def test_ratings_are_mapped_to_the_unit_interval(server: ChatServer) -> None:
    top = [{"token": "5", "logprob": math.log(0.5)}, {"token": "9", "logprob": math.log(0.5)}]
    content = [{"token": "9", "logprob": math.log(0.5), "top_logprobs": top}]
    server.plan = [says("1"), says("9"), says("3"), says("9", logprobs={"content": content})]
    with build_scorer(config(server)) as judge:
        scores = judge.score([answered(text) for text in "abcd"])
    # (r - 1) / 8; the mean rating of the last is 7.
    assert [s.value for s in scores] == [0.0, 1.0, 0.25, pytest.approx(0.75)]
    assert [s.raw for s in scores] == [("1",), ("9",), ("3",), ("9",)]


@pytest.mark.parametrize("text", ["0", "10", "5/9", "5.", "five", ""])
def test_what_is_no_rating_is_a_failure(server: ChatServer, text: str) -> None:
    server.plan = [says(text)]
    with build_scorer(config(server)) as judge:
        (score,) = judge.score([answered("x")])
    assert score.value is None
    assert score.failure is not None


def test_a_rubric_at_call_time_shares_the_limits(server: ChatServer) -> None:
    with LlmJudge(config(server, {"rubric": "Be kind."}, max_requests=4)) as judge:
        judge.compare([GOOD_FIRST])
        other = judge.with_rubric("Be brief.")
        other.compare([GOOD_FIRST])
        other.close()  # is not the owner: the judge itself goes on
        assert judge.spent.requests == 4
        assert "Rubric: Be kind." in server.requests[0]["messages"][1]["content"]
        assert "Rubric: Be brief." in server.requests[2]["messages"][1]["content"]
        with pytest.raises(JudgeStopped, match="max_requests is 4, and all are spent"):
            judge.compare([GOOD_SECOND])
    with pytest.raises(JudgeStopped, match="is closed"):
        judge.compare([GOOD_SECOND])


def test_the_cache_pays_once_and_keeps_no_failure(server: ChatServer, tmp_path: Path) -> None:
    cache = str(tmp_path / "kept" / "replies.sqlite")
    server.plan = [says("A"), says("I prefer B.")]
    settings = config(server, cache=cache)
    with LlmJudge(settings) as judge:
        (first,) = judge.compare([GOOD_FIRST])
    assert first.first_wins is None
    with LlmJudge(settings) as judge:
        (again,) = judge.compare([GOOD_FIRST])
        assert again.first_wins == 1.0
        assert (judge.spent.requests, judge.spent.cached) == (1, 1)
        judge.compare([GOOD_FIRST])
        assert (judge.spent.requests, judge.spent.cached) == (1, 3)
    assert len(server.requests) == 3
    with LlmJudge(config(server, {"rubric": "Other."}, cache=cache)) as judge:
        judge.compare([GOOD_FIRST])
    assert len(server.requests) == 5


def test_a_file_that_is_no_cache_is_refused(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_text("no database, and long enough to be looked at as one" * 20)
    with pytest.raises(ValueError, match=r"the cache .* cannot be used"):
        LlmJudge(config(server, cache=str(path)))


def test_costs_are_counted_and_never_pass_the_limit(server: ChatServer) -> None:
    prices: dict[str, Any] = {"price_in": 10.0, "price_out": 100.0}
    with LlmJudge(config(server, **prices)) as judge:
        judge.compare([GOOD_FIRST])
        # Two replies of 100 tokens in and 1 out: 2 · (100 · 10 + 1 · 100) / 10⁶.
        assert judge.spent.cost == pytest.approx(0.0022)
        assert (judge.spent.tokens_in, judge.spent.tokens_out) == (200, 2)
    one = 0.05  # a request is about 2,000 bytes, and may cost a token each
    with LlmJudge(config(server, max_cost=one, **prices)) as judge:
        with pytest.raises(JudgeStopped, match=r"max_cost is 0\.05"):
            judge.compare([question(f"good {i}", f"poor {i}") for i in range(100)])
        assert 0 < judge.spent.cost <= one


def test_a_server_that_does_not_count_spends_what_was_reserved(server: ChatServer) -> None:
    body = completion("A")
    del body["usage"]
    server.otherwise = lambda handler: handler.send(200, json.dumps(body).encode())
    settings = config(server, max_cost=0.2, price_in=10.0, price_out=0.0)
    with LlmJudge(settings) as judge, pytest.raises(JudgeStopped, match="max_cost"):
        judge.compare([question(f"good {i}", "poor") for i in range(100)])
    assert 0 < judge.spent.cost <= 0.2


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(server, key_env="MY_JUDGE")
    monkeypatch.delenv("MY_JUDGE", raising=False)
    with pytest.raises(ValueError, match="in the variable MY_JUDGE: set it"):
        LlmJudge(settings)
    monkeypatch.setenv("MY_JUDGE", "sk-secret\n")

    def refuse(handler: Handler) -> None:
        body = {"error": {"message": "wrong key sk-secret"}}
        handler.send(401, json.dumps(body).encode())

    server.plan = [refuse]
    with LlmJudge(settings) as judge, pytest.raises(JudgeStopped) as caught:
        judge.compare([GOOD_FIRST])
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "wrong key ***" in str(caught.value)
    assert "sk-secret" not in str(caught.value) + repr(judge.spent) + repr(settings)


def test_fields_of_a_request_can_be_added_and_left_out(server: ChatServer) -> None:
    extra = {"temperature": None, "max_tokens": None, "max_completion_tokens": 500}
    with LlmJudge(config(server, extra=extra)) as judge:
        judge.compare([GOOD_FIRST])
    body = server.requests[0]
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 500


def test_several_at_once_keep_their_order(server: ChatServer) -> None:
    server.otherwise = judge_by("good")
    questions = [GOOD_FIRST if i % 3 else GOOD_SECOND for i in range(30)]
    with LlmJudge(config(server, concurrency=8)) as judge:
        opinions = judge.compare(questions)
        assert judge.compare([]) == []
    assert [o.first_wins for o in opinions] == [float(q is GOOD_FIRST) for q in questions]
