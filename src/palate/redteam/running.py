"""Asking the model: attacks turn by turn, and benign prompts; every answer decided and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from palate.records import Example, Message, digest
from palate.redteam.attempts import Attempt
from palate.redteam.deciding import Case, Decider, Decision, decide
from palate.redteam.refusal import refuses
from palate.resumable import Row, RowLog
from palate.speak.speaker import Manner, Reply, Speaker

GROUP = 32
Advance = Callable[[int], None]


def run_attacks(
    attempts: Sequence[Attempt],
    speaker: Speaker,
    decider: Decider,
    manner: Manner,
    path: Path,
    advance: Advance = lambda count: None,
) -> list[Row]:
    """A row for each attempt, in order: itself, the conversation, the last answer, the decision.

    The log at `path` goes on where a kill left it. An attempt whose answer failed has no decision.
    Raises `ValueError` for a log of other settings.
    """
    settings = _settings("attacks", speaker, manner, [one.to_dict() for one in attempts])
    settings["decided by"] = decider.name
    groups = [attempts[at : at + GROUP] for at in range(0, len(attempts), GROUP)]
    with RowLog(path, settings, [len(group) for group in groups]) as log:
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done > len(log.rows):
                log.append(_attack(group, number, speaker, decider, manner))
                advance(len(group))
        return log.rows


def _attack(
    group: Sequence[Attempt], number: int, speaker: Speaker, decider: Decider, manner: Manner
) -> list[Row]:
    said = [list(one.opening) for one in group]
    replies: list[Reply] = [Reply("", failure="not asked")] * len(group)
    for turn in range(max(len(one.turns) for one in group)):
        at = [
            i
            for i, one in enumerate(group)
            if turn < len(one.turns) and (turn == 0 or replies[i].failure is None)
        ]
        for i in at:
            if turn:
                said[i].append(Message("assistant", replies[i].text))
            said[i].append(Message("user", group[i].turns[turn]))
        seed = int(digest([manner.seed, "attack", number, turn])[:12], 16)
        found = speaker.ask([said[i] for i in at], replace(manner, seed=seed))
        for i, reply in zip(at, found, strict=True):
            replies[i] = reply
    asked = [i for i, reply in enumerate(replies) if reply.failure is None]
    cases = [
        Case(tuple(said[i]), replies[i].text, replies[i].finished, group[i].canary) for i in asked
    ]
    decided = dict(zip(asked, decide(decider, cases), strict=True))
    nothing = Decision(None, "nobody")
    return [
        {
            **one.to_dict(),
            "prompt": [m.to_dict() for m in said[i]],
            "answer": replies[i].text,
            "finished": replies[i].finished,
            "failure": replies[i].failure,
            **asdict(decided.get(i, nothing)),
        }
        for i, one in enumerate(group)
    ]


def run_benign(
    prompts: Sequence[Example],
    speaker: Speaker,
    manner: Manner,
    path: Path,
    advance: Advance = lambda count: None,
) -> list[Row]:
    """A row for each benign prompt: its type, the answer, and whether it was refused.

    By the words of the answer (`palate.redteam.refusal`), whoever decides about attacks; silence
    counts as a refusal, and a failed answer as None.
    """
    settings = _settings("benign", speaker, manner, [example.prompt_key for example in prompts])
    groups = [prompts[at : at + GROUP] for at in range(0, len(prompts), GROUP)]
    with RowLog(path, settings, [len(group) for group in groups]) as log:
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done <= len(log.rows):
                continue
            seed = int(digest([manner.seed, "benign", number])[:12], 16)
            replies = speaker.ask([e.prompt for e in group], replace(manner, seed=seed))
            log.append([_benign(e, r) for e, r in zip(group, replies, strict=True)])
            advance(len(group))
        return log.rows


def _benign(example: Example, reply: Reply) -> Row:
    return {
        "key": example.prompt_key,
        "type": example.tags.get("type", "benign"),
        "prompt": [m.to_dict() for m in example.prompt],
        "answer": reply.text,
        "finished": reply.finished,
        "failure": reply.failure,
        "refused": None if reply.failure else refuses(reply.text),
    }


def _settings(kind: str, speaker: Speaker, manner: Manner, asked: Sequence[object]) -> Row:
    what = digest(list(asked))[:12]
    return {"kind": kind, "model": speaker.name, "prompts": what, **asdict(manner)}
