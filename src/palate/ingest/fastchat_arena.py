"""FastChat's logs: arena votes, ratings of one model, and chats; and the released battles.

A vote compares two conversations: where their earlier turns are the same, the last answers, else
all that follows the turns they share. A tie is counted and left out, and "both bad" is two thumbs
down, never a pair. The address (`ip`) is read nowhere. What FastChat itself wrote in place of an
answer (network errors, moderation) is an error of the provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.ingest.fields import pair, single, split_last_reply, tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, check_prompt, kind, need, parse_messages
from palate.ingest.origin import named, time_in, user_in
from palate.ingest.transcript import shared_turns
from palate.records import Completion, Example, Message, RecordError, Verdict

FIELDS = ("tstamp", "type", "models", "states", "winner", "conversation_a", "conversation_b")
_SIDES = {"leftvote": 0, "rightvote": 1, "model_a": 0, "model_b": 1}
_BAD = {"bothbad_vote", "tie (bothbad)", "bothbad", "both_bad"}
_THUMBS = {"upvote": True, "downvote": False, "chat": None}
_ERRORS = ("NETWORK ERROR DUE TO HIGH TRAFFIC", "$MODERATION$", "API REQUEST ERROR")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is of a FastChat log, or a released battle."""
    if "tstamp" in row and "type" in row:
        return "states" in row or "state" in row
    return {"model_a", "model_b", "winner", "conversation_a", "conversation_b"} <= row.keys()


def parse(row: dict[str, Any]) -> list[Example]:
    """One example a row: a pair, two bad answers, or one answer with or without a thumb."""
    if "state" in row:
        return [_alone(row)]
    vote = row.get("winner") if "winner" in row else row.get("type")
    sides = _conversations(row)
    if not isinstance(vote, str) or vote not in {*_SIDES, *_BAD, "tie", "tievote"}:
        raise RecordError("no-model-call", f"the row is a click of type {vote!r:.40}, no vote")
    if vote in {"tie", "tievote"}:
        raise RecordError("tie", "the vote is a tie")
    prompt, first, second = shared_turns(*sides)
    completions = tuple(
        Completion(
            check_answer(turns, f"conversation {index}"),
            source=model,
            label=False if vote in _BAD else None,
        )
        for index, (turns, model) in enumerate(zip((first, second), _models(row), strict=True))
    )
    verdict = None
    if vote in _SIDES:
        better = _SIDES[vote]
        verdict = Verdict(better, 1 - better, by="vote")
        pair(prompt, first, second)  # refuses equal answers
    return [Example(check_prompt(prompt), completions, verdict, tags=_tags(row))]


def time_of(row: dict[str, Any]) -> str | None:
    """When the vote was given."""
    return time_in(row, ("tstamp", "timestamp"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The conversation's id and how many turns it had; a battle is named by its first side."""
    try:
        if "state" in row:
            key, count = _conversation_id(row["state"]), len(_turns(row["state"]))
            return named("fastchat:chat/", f"{key}/{count}") if key else ()
        count = len(_conversations(row)[0])
    except RecordError:
        return ()
    states = row.get("states")
    first = states[0] if isinstance(states, list) and states else None
    key = row.get("question_id", row.get("id")) if first is None else _conversation_id(first)
    return named("fastchat:battle/", f"{key}/{count}") if isinstance(key, str) else ()


def user_of(row: dict[str, Any]) -> str | None:
    """Who voted, under the number that a release gives him."""
    return user_in(row, ("judge",))


def _alone(row: dict[str, Any]) -> Example:
    """The last answer of one model's conversation."""
    said = row.get("type")
    if not isinstance(said, str) or said not in _THUMBS:
        raise RecordError("no-model-call", f"the row is a click of type {said!r:.40}")
    made = single(*split_last_reply(_turns(row["state"])), _THUMBS[said], tags=_tags(row))
    state, model = row["state"], row.get("model")
    model = model if isinstance(model, str) else state.get("model_name")
    (answer,) = made.completions
    source = model if isinstance(model, str) else None
    completion = Completion(answer.messages, source=source, label=answer.label)
    return Example(made.prompt, (completion,), tags=made.tags)


def _conversations(row: dict[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    if "states" not in row:
        first, second = need(row, "conversation_a"), need(row, "conversation_b")
        return _spoken(parse_messages(first, "a")), _spoken(parse_messages(second, "b"))
    states = row["states"]
    if not isinstance(states, list) or len(states) != 2:
        raise RecordError("wrong-type", f"'states' is {kind(states)}, not a list of two")
    return _turns(states[0]), _turns(states[1])


def _turns(state: object) -> tuple[Message, ...]:
    """The turns of a conversation's state; the examples of its template are left out."""
    if not isinstance(state, dict):
        raise RecordError("wrong-type", f"a state is {kind(state)}, not an object")
    said, offset = state.get("messages"), state.get("offset") or 0
    if not isinstance(said, list) or not isinstance(offset, int) or offset < 0:
        raise RecordError("wrong-type", "a state has no list of messages")
    system = state.get("system_message")
    turns = [Message("system", system)] if isinstance(system, str) and system else []
    for index, turn in enumerate(said[offset:]):
        text = turn[1] if isinstance(turn, list) and len(turn) == 2 else None
        if isinstance(text, list) and len(text) == 2 and text[1]:
            raise RecordError("unsupported-content", "a turn of the conversation holds an image")
        text = text[0] if isinstance(text, list) and text else text
        if not isinstance(text, str):
            raise RecordError("empty-answer", f"turn {index} of the conversation has no text")
        turns.append(Message("assistant" if index % 2 else "user", text))
    return _spoken(tuple(turns))


def _spoken(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns, unless FastChat wrote one in a model's place."""
    for turn in turns:
        if turn.role == "assistant" and any(error in turn.content for error in _ERRORS):
            raise RecordError("provider-error", f"the answer is an error: {turn.content:.60}")
    return tuple(turns)


def _conversation_id(state: object) -> str | None:
    key = state.get("conv_id") if isinstance(state, dict) else None
    return key if isinstance(key, str) and len(key) > 5 else None


def _models(row: dict[str, Any]) -> list[str | None]:
    """The models, which an anonymous battle names only in its states."""
    states = row.get("states")
    if isinstance(states, list):
        hidden = [s.get("model_name") if isinstance(s, dict) else None for s in states]
        shown = row.get("models")
        shown = shown if isinstance(shown, list) and len(shown) == 2 else [None, None]
        named = [a or b for a, b in zip(hidden, shown, strict=True)]
    else:
        named = [row.get("model_a"), row.get("model_b")]
    return [model if isinstance(model, str) and model else None for model in named]


def _tags(row: dict[str, Any]) -> dict[str, str]:
    return tags_of({"language": row.get("language")})


FORMAT = Format(
    "fastchat-arena",
    "FastChat's logs (arena votes, ratings, chats) and released arena battles",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="votes; thumbs (up and down votes; both bad: two thumbs down)",
    names="`fastchat:battle/…`, `fastchat:chat/…`: conversation and number of turns",
)
