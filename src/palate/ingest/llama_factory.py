"""LLaMA-Factory's files: ShareGPT conversations and Alpaca rows, ranked, rated or plain.

- `{conversations | messages, chosen, rejected}`: a pair (Axolotl's chat_template.default too);
- `{conversations | messages, label | kto_tag}`: the label speaks about the last reply;
- `{conversations}`: a demonstration;
- `{instruction, input, chosen, rejected}` a pair, `{instruction, input, output}` a
  demonstration; both may have `system` and `history` ([[asked, answered], …]).
"""

from __future__ import annotations

from typing import Any

from palate.ingest.feedback import refuse_thumbs
from palate.ingest.fields import (
    column_tags,
    pair,
    parse_label,
    parse_tools,
    single,
    split_demonstration,
    split_last_reply,
    system_turns,
)
from palate.ingest.format import Format
from palate.ingest.messages import (
    decoded,
    need,
    need_text,
    parse_answer,
    parse_messages,
    refuse_media,
)
from palate.ingest.origin import time_in, user_in
from palate.records import Example, Message, RecordError

FIELDS = ("conversations", "chosen", "rejected", "instruction", "input", "output", "label")
_KNOWN = (*FIELDS, "messages", "system", "history", "tools", "kto_tag")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row holds a ShareGPT conversation, rated messages or an Alpaca instruction."""
    has = {name for name, value in row.items() if value is not None}
    if "conversations" in has:
        return True
    ranked = {"chosen", "rejected"} <= has
    if "instruction" in has:
        return ranked or "output" in has
    rated = ranked or bool({"label", "kto_tag"} & row.keys())
    return "messages" in has and rated and "prompt" not in has


def parse(row: dict[str, Any]) -> list[Example]:
    """One example: a pair, a labelled answer or a demonstration, by the fields the row has."""
    refuse_media(row)
    tools = parse_tools(row.get("tools"))
    tags = column_tags(row, _KNOWN)
    ranked = row.get("chosen") is not None or row.get("rejected") is not None
    alpaca = row.get("instruction") is not None
    turns = (*system_turns(row), *(_instruction(row) if alpaca else _conversation(row)))
    if ranked:
        chosen = parse_answer(need(row, "chosen"), "chosen")
        rejected = parse_answer(need(row, "rejected"), "rejected")
        return [pair(turns, chosen, rejected, tools, tags)]
    rated = next((name for name in ("label", "kto_tag") if name in row), None)
    label = parse_label(row[rated]) if rated else None
    if label is None:
        refuse_thumbs(row)
    if alpaca:
        answer = (Message("assistant", need_text(row, "output")),)
        return [single(turns, answer, label, tools, tags)]
    cut = split_last_reply if rated else split_demonstration
    return [single(*cut(turns), label=label, tools=tools, tags=tags)]


def _conversation(row: dict[str, Any]) -> tuple[Message, ...]:
    name = "messages" if row.get("conversations") is None else "conversations"
    return parse_messages(need(row, name), name)


def _instruction(row: dict[str, Any]) -> tuple[Message, ...]:
    """Instruction and input joined by a line break, as LLaMA-Factory does, after the history."""
    asked = need_text(row, "instruction")
    if row.get("input"):
        asked = f"{asked}\n{need_text(row, 'input')}"
    history = decoded(row.get("history")) or []
    turns: list[Message] = []
    for turn in history if isinstance(history, list) else [history]:
        match turn:
            case [str(before), str(answered)]:
                turns += [Message("user", before), Message("assistant", answered)]
            case _:
                raise RecordError("wrong-type", "'history' is not a list of [asked, answered]")
    return (*turns, Message("user", asked))


FORMAT = Format(
    "llama-factory",
    "LLaMA-Factory: ShareGPT conversations or Alpaca rows, with chosen and rejected",
    FIELDS,
    sniff,
    parse,
    time_in,
    user=user_in,
    signals="pairs; thumbs (`label`, `kto_tag`)",
)
