"""A body of `/v1/chat/completions`, checked: what it asks for, or why it is refused.

Every parameter is one of three: it is followed, it changes no answer and is ignored, or it would
change the answer and is refused. None is dropped in silence.
"""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from typing import Any

from palate.generate.draw import Sampling
from palate.ingest.messages import kind, parse_messages
from palate.records import Message, RecordError
from palate.serve.refusal import Refused, wrong

IGNORED = frozenset(
    {
        *("store", "metadata", "user", "safety_identifier", "service_tier", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention"),
    }
)
"""They do not change the answer. (`user` and `metadata.conversation_id` are stored with it.)"""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True,),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
"""Parameters that are not offered, with the values that ask for nothing."""

_FOLLOWED = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "stop", "seed", "temperature", "top_p"),
        *("top_k", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "n"),
        *("tools", "tool_choice"),
    }
)
MOST_STOPS, MOST_TOP, MOST_CHOICES = 16, 20, 128
_LARGEST = 2**31 - 1
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request. `top` counts the alternatives to tell for each token, None for no log-probs.

    `sampling.max_new_tokens` is 0 where the request sets no limit.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    sampling: Sampling
    n: int
    stop: tuple[str, ...]
    top: int | None
    stream: bool
    usage: bool


def read_request(body: bytes | str) -> Wanted:
    """What the body asks for; raises `Refused` under the parameter's name."""
    given = _object(body)
    for name, value in given.items():
        _refuse_unknown(name, value)
    stream = _flag(given, "stream")
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise wrong("stream_options", f"is {kind(options)}, not an object")
    if options and not stream:
        raise wrong("stream_options", "is for requests with stream: true")
    model = given.get("model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "is missing: /v1/models lists what is served here")
    return Wanted(
        model=model,
        messages=_messages(given),
        tools=_tools(given),
        sampling=_sampling(given),
        n=int(_number(given, "n", 1, 1, MOST_CHOICES, whole=True)),
        stop=_stop(given),
        top=_top(given),
        stream=stream,
        usage=_flag(options, "include_usage", "stream_options.include_usage"),
    )


def _object(body: bytes | str) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if ("\\u" if isinstance(body, str) else b"\\u") in body:  # type: ignore[operator]
        _refuse_surrogates(given)
    if not isinstance(given, dict):
        raise Refused(400, f"the body is {kind(given)}, not an object", code="invalid_json")
    return {name: value for name, value in given.items() if value is not None}


def _refuse_surrogates(given: Any) -> None:
    """Half of a surrogate pair is no character: nothing could encode it again."""
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise Refused(
            400,
            "the body escapes half of a surrogate pair, such as \\ud800, which is no character",
            code="invalid_json",
        ) from error


def _refuse_unknown(name: str, value: Any) -> None:
    if name in IGNORED or (name in _FOLLOWED and name not in NEUTRAL):
        return
    if name not in NEUTRAL:
        message = f"unknown parameter '{name:.60}': it might change the answer, and is not offered"
        raise Refused(400, message, param=name[:60], code="unknown_parameter")
    if value not in NEUTRAL[name]:
        raise Refused(
            400,
            f"'{name}' is not offered here: leave it out",
            param=name,
            code="unsupported_parameter",
        )


def _messages(given: dict[str, Any]) -> tuple[Message, ...]:
    if not given.get("messages"):
        raise wrong("messages", "is missing or empty")
    if not isinstance(given["messages"], list):
        raise wrong("messages", f"is {kind(given['messages'])}, not a list")
    try:
        return parse_messages(given["messages"], "messages")
    except RecordError as error:
        raise Refused(400, str(error), param="messages", code=error.reason) from error


def _tools(given: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    tools = given.get("tools", [])
    if not isinstance(tools, list):
        raise wrong("tools", f"is {kind(tools)}, not a list")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or tool.get("type", "function") != "function":
            raise wrong(f"tools[{index}]", "is no function with a name")
    return () if given.get("tool_choice") == "none" else tuple(tools)


def _sampling(given: dict[str, Any]) -> Sampling:
    limits = [
        _number(given, name, 0, 1, _LARGEST, whole=True)
        for name in ("max_completion_tokens", "max_tokens")
        if name in given
    ]
    return Sampling(
        max_new_tokens=int(min(limits, default=0)),
        temperature=_number(given, "temperature", 1.0, 0, 100),
        top_p=_number(given, "top_p", 1.0, 0, 1),
        top_k=max(0, int(_number(given, "top_k", 0, -1, _LARGEST, whole=True))),  # -1: vLLM's "all"
        seed=int(_number(given, "seed", secrets.randbits(63), 0, _LARGEST_SEED, whole=True)),
    )


def _stop(given: dict[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise wrong("stop", "is text, or a list of texts that are not empty")
    if len(stops) > MOST_STOPS:
        raise wrong("stop", f"has more than {MOST_STOPS} texts")
    return tuple(stops)


def _top(given: dict[str, Any]) -> int | None:
    wanted = _flag(given, "logprobs")
    if "top_logprobs" in given and not wanted:
        raise wrong("top_logprobs", "is for requests with logprobs: true")
    top = int(_number(given, "top_logprobs", 0, 0, MOST_TOP, whole=True))
    return top if wanted else None


def _flag(given: dict[str, Any], name: str, called: str | None = None) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(called or name, f"is {kind(value)}, not true or false")
    return bool(value)


def _number(
    given: dict[str, Any],
    name: str,
    default: float,
    low: float,
    high: float,
    *,
    whole: bool = False,
) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, f"is {kind(value)}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong(name, "is not a finite number")
    if whole and value != int(value):
        raise wrong(name, f"is {value:g}, not a whole number")
    if not low <= value <= high:  # a whole number may be too large for a float
        raise wrong(name, f"is {value!s:.24}, and lies between {low:g} and {high:g}")
    return int(value) if whole else float(value)
