"""A request and its response, in whichever API's words a logger kept them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.ingest.dialects import (
    is_message,
    parse_blocks,
    parse_turns,
    tool_definitions,
)
from palate.ingest.messages import (
    check_answer,
    check_prompt,
    decoded,
    kind,
    need,
    parse_message,
)
from palate.ingest.origin import provider_id
from palate.records import Completion, Example, Message, RecordError

# What providers say for the reasons that OpenAI calls so. Others stay as they are.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "refusal": "content_filter",
}
# Where requests and responses that are no API's keep their words.
_ASKED = ("input", "question", "query", "prompt", "user_input", "text", "content")
_ANSWERED = ("output", "answer", "response", "result", "text", "content", "completion")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: the turns up to the answer, the tools, and of which model."""

    turns: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    model: str | None = None


def refuse_errors(*scopes: object) -> None:
    """Raise ``provider-error`` for an object that holds an error instead of an answer."""
    for scope in scopes:
        if isinstance(scope, dict) and (scope.get("error") or scope.get("type") == "error"):
            shown = repr(scope.get("error"))[:80]
            raise RecordError("provider-error", f"the provider reported {shown}")


def refuse_status(status: object) -> None:
    """Raise ``provider-error`` for an HTTP status that is none of success."""
    if isinstance(status, int) and not isinstance(status, bool) and status >= 400:
        raise RecordError("provider-error", f"the provider answered with status {status}")


def parse_request(raw: object, where: str = "request") -> Request:
    """A request of OpenAI (chat, responses) or Anthropic, a list of messages, or text."""
    raw = decoded(raw)
    if not isinstance(raw, dict) or is_message(raw):
        return Request(parse_turns(raw, where))
    tools, model = tool_definitions(raw.get("tools")), _text(raw.get("model"))
    for system in ("system", "instructions"):
        if raw.get(system):
            first = _system(raw[system], system)
            break
    else:
        first = ()
    if raw.get("messages") is not None:
        turns = parse_turns(raw["messages"], f"{where}.messages", blocks="system" in raw)
        return Request((*first, *turns), tools, model)
    prompts = raw.get("prompts")
    if isinstance(prompts, list) and len(prompts) == 1:
        return Request((*first, *parse_turns(prompts[0], where)), tools, model)
    for name in _ASKED:
        if raw.get(name) is not None:
            asked = decoded(raw[name])
            if isinstance(asked, dict) and not is_message(asked):
                break
            return Request((*first, *parse_turns(asked, f"{where}.{name}")), tools, model)
    raise RecordError(
        "missing-field", f"'{where}' has no messages: it has {', '.join(map(str, raw))[:80]}"
    )


def parse_replies(raw: object, where: str = "response") -> list[Completion]:
    """The answers of a response in any API's words, of a message, of several, or of text.

    Raises `RecordError`: ``provider-error``, ``missing-field`` where no answer is found, and what
    the messages themselves may raise.
    """
    raw = decoded(raw)
    refuse_errors(raw)
    if isinstance(raw, str):
        return [Completion(check_answer((Message("assistant", raw),), where))]
    if isinstance(raw, list):
        return _listed(raw, where)
    if not isinstance(raw, dict):
        raise RecordError("missing-field", f"'{where}' is {kind(raw)}, not an answer")
    for name, read in _READERS.items():
        if raw.get(name) is not None:
            return read(raw[name], _text(raw.get("model")), where)
    if is_message(raw) or raw.get("type") == "message" or isinstance(raw.get("message"), dict):
        return [_one_message(raw, where)]
    for name in _ANSWERED:
        if raw.get(name) is not None:
            cut = raw.get("incomplete_details")
            reason = cut.get("reason") if isinstance(cut, dict) else None
            found = parse_replies(raw[name], f"{where}.{name}")
            return [_sourced(one, _text(raw.get("model")), reason) for one in found]
    raise RecordError(
        "missing-field", f"'{where}' has no answer: it has {', '.join(map(str, raw))[:80]}"
    )


def response_ids(raw: object) -> tuple[str, ...]:
    """The provider's id of a response, in whichever object stands where the response does."""
    raw = decoded(raw)
    if not isinstance(raw, dict):
        return ()
    metadata = raw.get("response_metadata")
    homes = [raw, metadata if isinstance(metadata, dict) else {}]
    known = ("chatcmpl-", "resp_", "msg_", "gen-", "cmpl-")
    whole = "choices" in raw or "usage" in raw
    for home in homes:
        value = home.get("id")
        if isinstance(value, str) and (whole or value.startswith(known)):
            return provider_id(value)
    return ()


def exchange(
    request: Request,
    replies: Sequence[Completion],
    tags: dict[str, str],
    source: str | None = None,
) -> Example:
    """The checked example of a request and its answers; `source` where no answer names a model."""
    model = source or request.model
    return Example(
        prompt=check_prompt(request.turns),
        completions=tuple(_sourced(one, model) for one in replies),
        tools=request.tools,
        tags=tags,
    )


def _system(raw: object, where: str) -> tuple[Message, ...]:
    """The system prompt: text, or blocks of it."""
    if isinstance(raw, list):
        return parse_blocks("system", raw, where)
    if not isinstance(raw, str):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not text")
    return (Message("system", raw),)


def _one_message(raw: dict[str, Any], where: str) -> Completion:
    """A message as the answer: Anthropic's, one that is wrapped, or one of any dialect."""
    model = _text(raw.get("model"))
    if raw.get("type") == "message" and "stop_reason" in raw:
        turns = parse_blocks("assistant", raw.get("content"), where)
        return _completion(turns, where, model, raw["stop_reason"])
    if isinstance(raw.get("message"), dict):
        turns = parse_turns(raw["message"], where)
        return _completion(turns, where, model, raw.get("done_reason"))
    return _completion(parse_turns(raw, where), where, model, _langchain_reason(raw))


def _conversation(raw: object, model: str | None, where: str) -> list[Completion]:
    """What the assistant said at the end of a list of messages."""
    turns = parse_turns(raw, f"{where}.messages")
    return [_completion(_last_turns(turns), where, model)]


def _choices(raw: object, model: str | None, where: str) -> list[Completion]:
    choices = decoded(raw)
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise RecordError("wrong-type", f"'choices' is {kind(choices)}, not a list of objects")
    if not choices:
        raise RecordError("empty-answer", "'choices' is an empty list")
    out = []
    for index, choice in enumerate(choices):
        place = f"{where}.choices[{index}]"
        refuse_errors(choice)
        if isinstance(choice.get("text"), str):  # the older completions API
            turns: tuple[Message, ...] = (Message("assistant", choice["text"]),)
        else:
            turns = parse_turns([need(choice, "message")], place)
        out.append(_completion(turns, place, model, choice.get("finish_reason")))
    return out


def _generations(raw: object, model: str | None, where: str) -> list[Completion]:
    """LangChain's answers: a list for each prompt, of which there is one."""
    batch = raw[0] if isinstance(raw, list) and raw and isinstance(raw[0], list) else raw
    if not isinstance(batch, list) or not batch:
        raise RecordError("empty-answer", f"'{where}.generations' holds no answer")
    out = []
    for index, one in enumerate(batch):
        place = f"{where}.generations[{index}]"
        if not isinstance(one, dict):
            raise RecordError("wrong-type", f"'{place}' is {kind(one)}, not an object")
        info = one.get("generation_info")
        said = one.get("message")
        reason = info.get("finish_reason") if isinstance(info, dict) else None
        reason = reason or _langchain_reason(said)
        if isinstance(said, dict):
            turns = parse_turns([said], place)
        else:
            turns = (parse_message({"role": "assistant", "content": one.get("text")}, place),)
        out.append(_completion(turns, place, model, reason))
    return out


def _langchain_reason(message: object) -> object:
    """Why the model stopped, as LangChain keeps it beside the message."""
    said = message.get("kwargs", message) if isinstance(message, dict) else None
    metadata = said.get("response_metadata") if isinstance(said, dict) else None
    if not isinstance(metadata, dict):
        return None
    return metadata.get("finish_reason") or metadata.get("stop_reason")


def _listed(raw: list[Any], where: str) -> list[Completion]:
    """A list as an answer: of messages, or of one message's blocks."""
    if not raw:
        raise RecordError("empty-answer", f"'{where}' is an empty list")
    if any(is_message(item) for item in raw):
        return [_completion(_last_turns(parse_turns(raw, where)), where, None)]
    return [_completion(parse_blocks("assistant", raw, where), where, None)]


def _last_turns(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The assistant's turns at the end of a conversation, with what its tools said."""
    cut = len(turns)
    while cut and turns[cut - 1].role in {"assistant", "tool"}:
        cut -= 1
    return tuple(turns[cut:])


def _completion(
    turns: Sequence[Message], where: str, model: str | None, reason: object = None
) -> Completion:
    said = check_answer(turns, where)
    return _sourced(Completion(said), model, reason)


def _sourced(one: Completion, model: str | None, reason: object = None) -> Completion:
    said = FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else one.finish_reason
    return Completion(one.messages, one.source or model, one.score, one.label, said)


_READERS = {"choices": _choices, "generations": _generations, "messages": _conversation}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
