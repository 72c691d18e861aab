"""The files of other programs that examples are written to, a row for each shape they take.

An example that a target would change without a word (a tool call that it drops, a turn that it
would learn from) is refused as `Unfit`, under

- ``several-turns``: the answer has more turns than one;
- ``tools-not-taken``: a tool, a call or a result, where the target has none;
- ``role-not-taken``: a system prompt in the middle, a developer's turn;
- ``turns-not-alternating``: two turns of one side in a row;
- ``words-and-call``: a turn that says something and calls a tool;
- ``bad-arguments``: a call whose arguments are no JSON, where they must be;
- ``history-learned``: a demonstration whose prompt has replies, which would be learned too;
- ``history-not-taken``: a prompt of several turns, where there is room for one question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from palate.config import nearest
from palate.records import Completion, Example, Message, canonical_json

Row = dict[str, Any]


class Unfit(ValueError):
    """An example that the target has no place for; `reason` is the slug it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """A file format that is written: how a row of each shape is made, and what reads it."""

    name: str
    description: str
    shapes: dict[str, Callable[[Example], Row]]


def find(name: str) -> Target:
    """The target called `name`; `ValueError` names the nearest one."""
    if name not in TARGETS:
        raise ValueError(f"unknown export format '{name}'{nearest(name, list(TARGETS))}")
    return TARGETS[name]


def _dicts(turns: Sequence[Message]) -> list[Row]:
    return [turn.to_dict() for turn in turns]


def _only_turn(answer: Completion) -> Message:
    if len(answer.messages) > 1:
        raise Unfit("several-turns", "the answer has several turns")
    return answer.messages[0]


def _refuse_tools(example: Example) -> None:
    turns = [*example.prompt, *(turn for one in example.completions for turn in one.messages)]
    if example.tools or any(turn.tool_calls or turn.role == "tool" for turn in turns):
        raise Unfit("tools-not-taken", "the conversation has tools, which would be dropped")


def _refuse_history(example: Example) -> None:
    if any(turn.role == "assistant" for turn in example.prompt):
        raise Unfit("history-learned", "the replies in the prompt would be learned too")


# TRL: conversational, with an explicit prompt. Tools are JSON text: as columns of a table, the
# parameters of each tool would get those of all others, as nulls.


def _trl(example: Example, **answers: Any) -> Row:
    row: Row = {"prompt": _dicts(example.prompt), **answers}
    return row | ({"tools": canonical_json(list(example.tools))} if example.tools else {})


def _trl_pair(example: Example) -> Row:
    chosen, rejected = _dicts(example.chosen.messages), _dicts(example.rejected.messages)
    return _trl(example, chosen=chosen, rejected=rejected)


def _trl_labelled(example: Example) -> Row:
    (answer,) = example.completions
    return _trl(example, completion=_dicts(answer.messages), label=answer.label)


def _trl_demonstration(example: Example) -> Row:
    return _trl(example, completion=_dicts(example.completions[0].messages))


def _text(example: Example) -> Row:
    return {"text": example.completions[0].text}


# OpenAI: arguments are JSON text, and an answer holds no turn of the user's.


def _openai_turn(turn: Message) -> Row:
    out = turn.to_dict()
    if turn.tool_calls:
        out["tool_calls"] = [_with_text(call) for call in turn.tool_calls]
    return out


def _with_text(call: Row) -> Row:
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function.get("arguments"))}}


def _openai_pair(example: Example) -> Row:
    sides = [example.chosen.messages, example.rejected.messages]
    if any(turn.role not in {"assistant", "tool"} for side in sides for turn in side):
        raise Unfit("several-turns", "the answer holds a turn that is not the assistant's")
    request: Row = {"messages": [_openai_turn(turn) for turn in example.prompt]}
    if example.tools:
        request["tools"] = list(example.tools)
    better, worse = ([_openai_turn(turn) for turn in side] for side in sides)
    return {"input": request, "preferred_output": better, "non_preferred_output": worse}


def _openai_demonstration(example: Example) -> Row:
    _refuse_history(example)
    turns = (*example.prompt, *example.completions[0].messages)
    row: Row = {"messages": [_openai_turn(turn) for turn in turns]}
    return row | ({"tools": list(example.tools)} if example.tools else {})


# Axolotl, chat_template.default: it reads role and content of each message, and nothing else.


def _axolotl_turns(turns: Sequence[Message]) -> list[Row]:
    if any(turn.role == "developer" for turn in turns):
        raise Unfit("role-not-taken", "there is no developer's turn")
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _axolotl_pair(example: Example) -> Row:
    _refuse_tools(example)
    chosen, rejected = _only_turn(example.chosen), _only_turn(example.rejected)
    better, worse = _axolotl_turns((chosen, rejected))
    return {"messages": _axolotl_turns(example.prompt), "chosen": better, "rejected": worse}


def _axolotl_labelled(example: Example) -> Row:
    """The KTO type chatml.argilla: one question, one answer."""
    _refuse_tools(example)
    (answer,) = example.completions
    system = [turn.content for turn in example.prompt[:1] if turn.role == "system"]
    asked = example.prompt[len(system) :]
    if len(asked) != 1:
        raise Unfit("history-not-taken", "there is room for one question")
    row: Row = {"system": system[0]} if system else {}
    row |= {"instruction": asked[0].content, "completion": _only_turn(answer).content}
    return row | {"label": answer.label}


def _axolotl_demonstration(example: Example) -> Row:
    _refuse_tools(example)
    _refuse_history(example)
    return {"messages": _axolotl_turns((*example.prompt, *example.completions[0].messages))}


# LLaMA-Factory's ShareGPT: question and answer take turns, and a call is a turn of its own.

_SHAREGPT = {"user": "human", "tool": "observation", "assistant": "gpt"}


def _sharegpt(turns: Sequence[Message]) -> list[Row]:
    out = [_sharegpt_turn(turn) for turn in turns]
    asked = {"human", "observation"}
    sides = [turn["from"] in asked for turn in out]
    if not sides[0] or any(one == other for one, other in pairwise(sides)):
        raise Unfit("turns-not-alternating", "question and answer do not take turns")
    return out


def _sharegpt_turn(turn: Message) -> Row:
    if turn.role not in _SHAREGPT:
        raise Unfit("role-not-taken", f"there is no place for this {turn.role} turn")
    if not turn.tool_calls:
        return {"from": _SHAREGPT[turn.role], "value": turn.content}
    if turn.content.strip():
        raise Unfit("words-and-call", "a turn says something and calls a tool")
    calls = [_with_object(call.get("function", call)) for call in turn.tool_calls]
    said = calls if len(calls) > 1 else calls[0]
    return {"from": "function_call", "value": json.dumps(said, ensure_ascii=False)}


def _with_object(function: Row) -> Row:
    """Name and arguments, the arguments an object where they are one as text."""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise Unfit("bad-arguments", "a call's arguments are no JSON") from error
    return {"name": function.get("name"), "arguments": arguments}


def _llama(example: Example, turns: Sequence[Message]) -> Row:
    row: Row = {}
    if turns and turns[0].role == "system":
        row["system"], turns = turns[0].content, turns[1:]
    if not turns:
        raise Unfit("turns-not-alternating", "there is no question")
    row["conversations"] = _sharegpt(turns)
    return row | ({"tools": canonical_json(list(example.tools))} if example.tools else {})


def _llama_pair(example: Example) -> Row:
    better, worse = _only_turn(example.chosen), _only_turn(example.rejected)
    row = _llama(example, example.prompt)
    return row | {"chosen": _sharegpt_turn(better), "rejected": _sharegpt_turn(worse)}


def _llama_labelled(example: Example) -> Row:
    (answer,) = example.completions
    row = _llama(example, (*example.prompt, _only_turn(answer)))
    return row | {"kto_tag": answer.label}


def _llama_demonstration(example: Example) -> Row:
    _refuse_history(example)
    return _llama(example, (*example.prompt, *example.completions[0].messages))


TARGETS = {
    target.name: target
    for target in (
        Target(
            "trl",
            "TRL: prompt, chosen, rejected; completion, label; as messages",
            {
                "pair": _trl_pair,
                "labelled": _trl_labelled,
                "demonstration": _trl_demonstration,
                "text": _text,
            },
        ),
        Target(
            "openai",
            "OpenAI: preference fine-tuning, and messages for supervised fine-tuning",
            {"pair": _openai_pair, "demonstration": _openai_demonstration},
        ),
        Target(
            "axolotl",
            "Axolotl: chat_template.default, for KTO chatml.argilla, chat_template",
            {
                "pair": _axolotl_pair,
                "labelled": _axolotl_labelled,
                "demonstration": _axolotl_demonstration,
                "text": _text,
            },
        ),
        Target(
            "llama-factory",
            "LLaMA-Factory: ShareGPT with chosen and rejected, with kto_tag, or plain",
            {
                "pair": _llama_pair,
                "labelled": _llama_labelled,
                "demonstration": _llama_demonstration,
                "text": _text,
            },
        ),
    )
}
