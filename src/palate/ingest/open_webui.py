"""Open WebUI's export of feedback: a rating of one answer, with a snapshot of its chat.

The prompt is the branch of the chat that leads to the rated answer. Other answers to the same
question stand beside it: the rating, 1 or -1, is the rated answer's thumb, and a vote for it or
against it where it was given among several (an arena, several models, or asking again). An answer
that has the same thumb as the rated one is neither better nor worse. The detailed rating of 1 to
10 is a score. Without a snapshot the rating is a signal about the message.

What a model thought aloud (``<details type="reasoning">``) is left out, as Open WebUI itself
does when it sends the chat on; tool calls, which it writes into the answer in the same way, become
turns of their own (`palate.ingest.details`).
"""

from __future__ import annotations

from typing import Any

from palate.ingest.details import spoken, turns_of
from palate.ingest.feedback import read_thumb
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, check_prompt, decoded, need
from palate.ingest.opinions import as_number, settled
from palate.ingest.origin import named, time_in, user_in
from palate.records import Completion, Example, Message, RecordError, Signal, Verdict

FIELDS = ("data", "meta", "snapshot", "user_id", "rating", "sibling_model_ids", "arena")
_ROLES = {"system", "user", "assistant"}
_DEEPEST = 10_000  # turns of a chat: a chain longer than that goes in a circle


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a rating as Open WebUI keeps it."""
    data, meta = decoded(row.get("data")), decoded(row.get("meta"))
    return isinstance(data, dict) and isinstance(meta, dict) and "rating" in data


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """The rated answer among those beside it; or, without a snapshot, the rating alone."""
    data = _object(row, "data")
    thumb = read_thumb(need(data, "rating"))
    comment = data.get("comment")
    comment = comment if isinstance(comment, str) and comment else None
    messages = _messages(row)
    if not messages:
        about = named("open-webui:message/", _object(row, "meta").get("message_id"))
        if not about:
            raise RecordError("missing-field", "a rating without snapshot and message_id")
        return [Signal(about, "thumb", label=thumb, comment=comment)]
    rated, beside = _answers(row, messages)
    parent = messages[rated["parentId"]]
    system = _system(row)
    branch = _branch(messages, parent)
    prompt = (*system, *(turn for raw in branch for turn in _turns(raw)))
    completions = [_completion(rated, thumb)]
    completions += [_completion(other, read_thumb(_own_rating(other))) for other in beside]
    votes = [i for i, one in enumerate(completions) if i and one.label != thumb]
    verdict = _vote(thumb, votes[0]) if len(votes) == 1 else None
    made = Example(check_prompt(prompt), tuple(completions), verdict, tags=_tags(row))
    return settled(made, _signals(row, thumb, votes))


def time_of(row: dict[str, Any]) -> str | None:
    """When the rating was given or changed."""
    return time_in(row, ("updated_at", "created_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The rated message's id, with those of the answers beside it: together they are one thing."""
    messages = _messages(row)
    if not messages:
        return ()
    try:
        rated, beside = _answers(row, messages)
    except RecordError:
        return ()
    return named("open-webui:message/", "+".join([rated["id"], *sorted(o["id"] for o in beside)]))


def user_of(row: dict[str, Any]) -> str | None:
    """Who gave the rating."""
    return user_in(row, ("user_id",))


def _object(row: dict[str, Any], name: str) -> dict[str, Any]:
    value = decoded(row.get(name))
    return value if isinstance(value, dict) else {}


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    """The chat of the snapshot, which the API wraps in a record of its own."""
    chat = _object(_object(row, "snapshot"), "chat")
    return _object(chat, "chat") or chat


def _messages(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The chat's messages by id."""
    found = _object(_object(_chat(row), "history"), "messages")
    return {key: {**value, "id": key} for key, value in found.items() if isinstance(value, dict)}


def _answers(
    row: dict[str, Any], messages: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rated message, and the other answers to the same question."""
    key = _object(row, "meta").get("message_id")
    rated = messages.get(key) if isinstance(key, str) else None
    if rated is None:
        raise RecordError("missing-field", "the rated message is not in the snapshot")
    parent = rated.get("parentId")
    if not isinstance(parent, str) or parent not in messages:
        raise RecordError("empty-prompt", "the rated message answers no other")
    if rated.get("error"):
        raise RecordError("provider-error", "the rated message is an error of the provider")
    beside = [
        one
        for one in messages.values()
        if one.get("parentId") == parent and one is not rated and _says_something(one)
    ]
    return rated, beside


def _says_something(message: dict[str, Any]) -> bool:
    """Whether a message is a whole answer: done, no error, and not empty."""
    content = message.get("content")
    whole = isinstance(content, str) and bool(spoken(content).strip())
    return (
        whole
        and message.get("role") == "assistant"
        and not message.get("error")
        and message.get("done") is not False
    )


def _branch(messages: dict[str, dict[str, Any]], last: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages from the first to `last`."""
    chain = [last]
    while isinstance(before := chain[-1].get("parentId"), str) and before in messages:
        chain.append(messages[before])
        if len(chain) > _DEEPEST:
            raise RecordError("wrong-type", "the chat's messages go in a circle")
    return chain[::-1]


def _turns(raw: dict[str, Any]) -> tuple[Message, ...]:
    """A message of the chat as turns: the calls in an answer, and their results, are its own."""
    role, content = raw.get("role"), raw.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise RecordError("bad-role", f"a message of the chat has the role {role!r:.40}")
    if not isinstance(content, str):
        raise RecordError("wrong-type", "a message of the chat has no text")
    files = raw.get("files")
    if isinstance(files, list) and any(isinstance(f, dict) and f.get("type") for f in files):
        raise RecordError("unsupported-content", "a message of the chat comes with files")
    return turns_of(content) if role == "assistant" else (Message(role, content),)


def _completion(raw: dict[str, Any], thumb: bool | None) -> Completion:
    model = next(
        (m for n in ("selectedModelId", "model") if isinstance(m := raw.get(n), str)), None
    )
    return Completion(check_answer(_turns(raw), "answer"), source=model, label=thumb)


def _own_rating(message: dict[str, Any]) -> object:
    return _object(message, "annotation").get("rating")


def _system(row: dict[str, Any]) -> tuple[Message, ...]:
    chat = _chat(row)
    said = _object(chat, "params").get("system") or chat.get("system")
    return (Message("system", said),) if isinstance(said, str) and said else ()


def _vote(thumb: bool | None, other: int) -> Verdict | None:
    if thumb is None:
        return None
    return Verdict(0, other, by="vote") if thumb else Verdict(other, 0, by="vote")


def _signals(row: dict[str, Any], thumb: bool | None, votes: list[int]) -> list[Signal]:
    """Votes against more than one other answer, and the detailed rating."""
    about, data = ids_of(row), _object(row, "data")
    out: list[Signal] = []
    if thumb is not None and len(votes) > 1:
        pairs = [(0, other) if thumb else (other, 0) for other in votes]
        out += [Signal(about, "vote", better, over=worse) for better, worse in pairs]
    detailed = as_number(_object(data, "details").get("rating"))
    if detailed is not None:
        out.append(Signal(about, "score", score=detailed, name="rating"))
    return out


def _tags(row: dict[str, Any]) -> dict[str, str]:
    data, meta = _object(row, "data"), _object(row, "meta")
    listed = data.get("tags")
    more = {"conversation_id": meta.get("chat_id"), "reason": data.get("reason")}
    more["arena"] = meta.get("arena") or None
    if isinstance(listed, list):
        more["tags"] = ", ".join(tag for tag in listed if isinstance(tag, str))
    return tags_of(more)


FORMAT = Format(
    "open-webui",
    "Open WebUI's export of feedback, with the chat it is about",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs (`rating`), votes against the answers beside it, scores (`details.rating`)",
    names="`open-webui:message/…`, with the answers beside it",
)
