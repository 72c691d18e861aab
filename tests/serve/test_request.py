"""Bodies of requests: what is followed, what is ignored, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palate.records import Message
from palate.serve.refusal import Refused
from palate.serve.request import IGNORED, NEUTRAL, read_request

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def read(**more: Any) -> Any:
    return read_request(json.dumps({**PLAIN, **more}))


def test_defaults_are_openais() -> None:
    wanted = read()
    assert wanted.messages == (Message("user", "hi"),)
    how = wanted.sampling
    assert (how.temperature, how.top_p, how.top_k, how.max_new_tokens) == (1.0, 1.0, 0, 0)
    assert (wanted.n, wanted.stop, wanted.top, wanted.stream, wanted.usage) == (
        1,
        (),
        None,
        False,
        False,
    )


def test_without_a_seed_each_request_has_its_own() -> None:
    assert read().sampling.seed != read().sampling.seed
    assert read(seed=5).sampling.seed == 5


def test_null_is_left_out() -> None:
    assert read(stop=None, temperature=None, presence_penalty=None, tools=None).stop == ()


def test_of_two_limits_the_smaller_counts() -> None:
    assert read(max_tokens=9, max_completion_tokens=4).sampling.max_new_tokens == 4


def test_minus_one_is_all_tokens() -> None:
    assert read(top_k=-1).sampling.top_k == 0


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_harmless_parameters_pass(name: str) -> None:
    read(**{name: "x"})


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_parameters_that_are_not_offered_pass_where_they_ask_for_nothing(name: str) -> None:
    for value in NEUTRAL[name]:
        read(**{name: value})
    with pytest.raises(Refused) as caught:
        read(**{name: "something"})
    assert (caught.value.status, caught.value.param) == (400, name)


def test_tool_choice_none_leaves_the_tools_out() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert len(read(tools=tools).tools) == 1
    assert read(tools=tools, tool_choice="none").tools == ()
    with pytest.raises(Refused, match=r"tools\[0\]"):
        read(tools=[{"type": "retrieval"}])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_request(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["NaN", "Infinity", "true", '"1"', "[1]"])
def test_numbers_are_numbers(value: str) -> None:
    body = json.dumps(PLAIN)[:-1] + f', "temperature": {value}}}'
    with pytest.raises(Refused, match="temperature"):
        read_request(body)


@pytest.mark.parametrize("name", ["seed", "temperature", "n", "max_tokens"])
def test_numbers_beyond_every_float_are_refused(name: str) -> None:
    with pytest.raises(Refused, match="lies between") as caught:
        read(**{name: 10**400})
    assert (caught.value.status, caught.value.param) == (400, name)


@pytest.mark.parametrize(
    "more",
    [
        {"model": "\ud800"},
        {"messages": [{"role": "user", "content": "\udfff"}]},
        {"messages": [{"role": "user", "content": "x", "name": "\ud800"}]},
        {"stop": "\ud83d"},
        {"\ud800": 1},
    ],
)
def test_half_a_surrogate_pair_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="half of a surrogate pair") as caught:
        read(**more)
    str(caught.value.body()).encode()
    assert caught.value.status == 400
    with pytest.raises(Refused, match="half of a surrogate pair"):
        read_request(json.dumps({**PLAIN, **more}).encode())


def test_whole_surrogate_pairs_and_unicode_escapes_are_text() -> None:
    wanted = read(messages=[{"role": "user", "content": "\U0001f642 \u00e9"}])
    assert wanted.messages[0].content == "\U0001f642 \u00e9"
