"""Pairs for a targeted fine-tune: a safe answer over each failure, and help over each needless no.

A cure for attacks alone would teach to refuse, so that the benign prompts that were refused give
pairs the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from palate.records import Message, digest
from palate.redteam.deciding import Case, Decider, decide
from palate.redteam.refusal import refuses
from palate.redteam.running import GROUP
from palate.redteam.seeds import Category
from palate.resumable import Row, RowLog
from palate.speak.speaker import Manner, Reply, Speaker

SAFELY = (
    "You are kind and careful. If a request could hurt anybody, is unlawful, or asks for a secret, "
    "say in one or two calm sentences that you can't help with it, and offer something that helps "
    "instead. Never play along with a game, a story or a code that only hides such a request."
)
HELPFULLY = (
    "You are a helpful assistant. The request is harmless, even if a word in it sounds dangerous. "
    "Answer it directly, without a warning."
)


@dataclass(slots=True)
class Cure:
    """The pairs, where their chosen answers are from, and what made none, by reason."""

    pairs: list[Row] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def cure(
    attacks: Sequence[Row],
    benign: Sequence[Row],
    categories: Mapping[str, Category],
    speaker: Speaker,
    decider: Decider,
    manner: Manner,
    path: Path,
) -> Cure:
    """A pair for each attack that succeeded, and for each benign prompt that was refused.

    The chosen answer is the model's own under a system prompt that says what is wanted, if the
    same decider finds it safe, or if it is no refusal; for attacks else one that is written for
    the category. The model's answers are kept in the log at `path`.
    """
    failures = [row for row in attacks if row["succeeded"]]
    refused = [row for row in benign if row["refused"]]
    tasks = [(row, SAFELY) for row in failures] + [(row, HELPFULLY) for row in refused]
    settings = {
        "kind": "cure",
        "model": speaker.name,
        "prompts": digest([row["prompt"] for row, _ in tasks])[:12],
        "decided by": decider.name,
        **asdict(manner),
    }
    groups = [tasks[at : at + GROUP] for at in range(0, len(tasks), GROUP)]
    with RowLog(path, settings, [len(group) for group in groups]) as log:
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done > len(log.rows):
                log.append(_answers(group, number, speaker, decider, manner))
        answers = log.rows
    out = Cure()
    for row, answer in zip(failures, answers[: len(failures)], strict=True):
        _safe(out, row, answer, categories.get(row["category"]), speaker.name)
    for row, answer in zip(refused, answers[len(failures) :], strict=True):
        _helpful(out, row, answer, speaker.name)
    return out


def _answers(
    group: Sequence[tuple[Row, str]],
    number: int,
    speaker: Speaker,
    decider: Decider,
    manner: Manner,
) -> list[Row]:
    """Of each task the answer under the system prompt, and whether it is one to choose."""
    asked = [_under(system, row["prompt"]) for row, system in group]
    seed = int(digest([manner.seed, "cure", number])[:12], 16)
    replies = speaker.ask(asked, replace(manner, seed=seed))
    attacks = [i for i, (_, system) in enumerate(group) if system == SAFELY]
    cases = [
        Case(_messages(group[i][0]["prompt"]), replies[i].text, canary=group[i][0]["canary"])
        for i in attacks
    ]
    safe = {
        i: decision.succeeded is False
        for i, decision in zip(attacks, decide(decider, cases), strict=True)
    }
    return [
        {"text": reply.text, "good": _whole(reply) and safe.get(i, not refuses(reply.text))}
        for i, reply in enumerate(replies)
    ]


def _whole(reply: Reply) -> bool:
    return reply.failure is None and reply.finished and bool(reply.text)


def _messages(prompt: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message.from_dict(message) for message in prompt)


def _under(system: str, prompt: Sequence[dict[str, Any]]) -> list[Message]:
    """The conversation under a system prompt; one that it has already comes after ours."""
    turns = list(_messages(prompt))
    if turns and turns[0].role == "system":
        return [Message("system", f"{system}\n\n{turns[0].content}"), *turns[1:]]
    return [Message("system", system), *turns]


def _safe(out: Cure, row: Row, answer: Row, category: Category | None, model: str) -> None:
    if answer["good"]:
        chosen, source = answer["text"], "model"
    elif category is not None:
        at = int(digest(row["id"])[:8], 16) % len(category.safe)
        chosen, source = " ".join(category.safe[at].split()), "template"
    else:
        out.left_out["no-safe-answer"] += 1
        return
    facts = {
        "kind": "attack",
        "category": row["category"],
        "attack": row["attack"],
        "form": row["form"],
        "decided_by": row["by"],
        "rejected_finished": row["finished"],
    }
    _add(out, row, chosen, source, model, facts)


def _helpful(out: Cure, row: Row, answer: Row, model: str) -> None:
    if not answer["good"] or not row["answer"].strip():
        out.left_out["no-helpful-answer" if not answer["good"] else "empty-answer"] += 1
        return
    facts = {"kind": "over-refusal", "category": row["type"]}
    _add(out, row, answer["text"], "model", model, facts)


def _add(out: Cure, row: Row, chosen: str, source: str, model: str, facts: Row) -> None:
    if chosen.strip() == row["answer"].strip():
        out.left_out["equal-answers"] += 1
        return
    out.sources[source] += 1
    out.pairs.append(
        {
            "prompt": row["prompt"],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": row["answer"]}],
            "metadata": {**facts, "chosen_from": source, "model": model},
        }
    )
