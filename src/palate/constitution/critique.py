"""Critique and revision in rounds, and the demonstrations and pairs that come of them.

Bai et al. 2022 (Constitutional AI, arXiv 2212.08073), section 3: the model answers, criticises its
answer under a principle, and revises it; the last revision is what supervised fine-tuning imitates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from palate.constitution.asking import critique_turns, revision_turns, unquoted, wording
from palate.constitution.gates import same, why_not
from palate.constitution.principles import Constitution, Principle, draw
from palate.records import Example, digest
from palate.resumable import Row, RowLog
from palate.speak.settings import AskSettings
from palate.speak.speaker import Manner, Reply, Speaker


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides the chains beside the model, the constitution and the prompts.

    `group` prompts are worked on at a time and written together; `critique_tokens` limits a
    critique, `manner.max_new_tokens` an answer.
    """

    rounds: int = 1
    manner: Manner = field(default_factory=Manner)
    critique_tokens: int = 96
    group: int = 16


class CritiqueSettings(AskSettings):
    """What the command line can say."""

    rounds: int = Field(1, ge=1)
    critique_tokens: int = Field(96, ge=1)
    only: tuple[str, ...] = ()
    pairs: str | None = None
    format: str = "auto"

    @property
    def plan(self) -> Plan:
        """What of it decides the chains."""
        return Plan(self.rounds, self.manner, self.critique_tokens)


@dataclass(slots=True)
class Summary:
    """What came of the prompts.

    `left_out` counts chains without a good revision, `rounds_left_out` revisions, and
    `first_left_out` pairs without a usable first answer, all by reason.
    """

    prompts: int = 0
    kept: int = 0
    rounds: int = 0
    rounds_kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    rounds_left_out: Counter[str] = field(default_factory=Counter)
    by_principle: dict[str, list[int]] = field(default_factory=dict)
    pairs: int = 0
    first_left_out: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> Row:
        """As JSON; `by_principle` has (revisions kept, revisions asked for)."""
        counted = ("left_out", "rounds_left_out", "first_left_out", "by_principle")
        numbers = ("prompts", "kept", "rounds", "rounds_kept", "pairs")
        return {name: getattr(self, name) for name in numbers} | {
            name: dict(getattr(self, name)) for name in counted
        }


def chains(
    prompts: Sequence[Example],
    speaker: Speaker,
    constitution: Constitution,
    plan: Plan,
    path: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Row]:
    """One chain for each prompt, in order, as they stand in the log at `path`.

    A chain holds the first answer and of each round the principle, the critique, the revision and
    whether it was kept (else the `reason`); `final` is the last kept revision. The log goes on
    where a kill left it. Raises `ValueError` for a log made under other settings.
    """
    groups = [prompts[at : at + plan.group] for at in range(0, len(prompts), plan.group)]
    settings = {
        "kind": "critique",
        "model": speaker.name,
        "constitution": constitution.hash,
        "prompts": digest([example.prompt_key for example in prompts])[:12],
        **asdict(plan),
    }
    with RowLog(path, settings, [len(group) for group in groups]) as log:
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done <= len(log.rows):
                continue
            log.append(_Group(group, number, speaker, constitution, plan).run())
            advance(len(group))
        return log.rows


class _Group:
    """Some chains that grow together: every step asks the model once for all of them."""

    def __init__(
        self,
        examples: Sequence[Example],
        number: int,
        speaker: Speaker,
        constitution: Constitution,
        plan: Plan,
    ) -> None:
        self.examples, self.number = examples, number
        self.speaker, self.constitution, self.plan = speaker, constitution, plan
        self.current: list[str] = []
        self.rows: list[Row] = []

    def run(self) -> list[Row]:
        first = self._ask([e.prompt for e in self.examples], "answer", 0)
        for example, reply in zip(self.examples, first, strict=True):
            reason = reply.failure or (None if reply.text else "empty")
            self.rows.append(
                {
                    "key": example.prompt_key,
                    "prompt": [m.to_dict() for m in example.prompt],
                    "tags": example.tags,
                    "first": asdict(reply),
                    "rounds": [],
                    "final": None,
                    "reason": reason and f"first-{reason}",
                }
            )
        self.current = [reply.text for reply in first]
        drawn = [self._drawn(example) for example in self.examples]
        for number in range(self.plan.rounds):
            self._round(number, [principles[number] for principles in drawn])
        for row, text in zip(self.rows, self.current, strict=True):
            self._finish(row, text)
        return self.rows

    def _round(self, number: int, principles: Sequence[Principle]) -> None:
        """One critique and one revision of every answer that there is."""
        at = [i for i, row in enumerate(self.rows) if row["reason"] is None]
        critiques = self._ask(
            [
                critique_turns(
                    self.constitution, principles[i], self.examples[i].prompt, self.current[i]
                )
                for i in at
            ],
            "critique",
            number,
        )
        critiques = [unquoted(critique) for critique in critiques]
        useful = [(i, c) for i, c in zip(at, critiques, strict=True) if c.text and not c.failure]
        revisions = self._ask(
            [
                revision_turns(
                    self.constitution,
                    principles[i],
                    self.examples[i].prompt,
                    self.current[i],
                    critique.text,
                )
                for i, critique in useful
            ],
            "revision",
            number,
        )
        revised = {i: unquoted(reply) for (i, _), reply in zip(useful, revisions, strict=True)}
        for i, critique in zip(at, critiques, strict=True):
            self._note(i, principles[i], critique, revised.get(i))

    def _note(self, i: int, principle: Principle, critique: Reply, revision: Reply | None) -> None:
        if revision is None:
            reason: str | None = f"critique-{critique.failure or 'empty'}"
        else:
            reason = why_not(
                revision,
                self.current[i],
                said=[m.content for m in self.examples[i].prompt],
                critique=critique.text,
                ours=wording(self.constitution, principle),
            )
        self.rows[i]["rounds"].append(
            {
                "principle": principle.id,
                "critique": asdict(critique),
                "revision": asdict(revision) if revision else None,
                "kept": reason is None,
                "reason": reason,
            }
        )
        if reason is None and revision is not None:
            self.current[i] = revision.text

    def _finish(self, row: Row, text: str) -> None:
        if row["reason"] is not None:
            return
        if not any(one["kept"] for one in row["rounds"]):
            row["reason"] = row["rounds"][-1]["reason"]
        elif same(text, row["first"]["text"]):
            row["reason"] = "unchanged"
        else:
            row["final"] = text

    def _drawn(self, example: Example) -> list[Principle]:
        return draw(
            self.constitution.principles,
            self.plan.rounds,
            seed=self.plan.manner.seed,
            prompt=example.prompt_key,
            use="critique",
        )

    def _ask(self, conversations: Sequence[Any], use: str, number: int) -> list[Reply]:
        if not conversations:
            return []
        manner = self.plan.manner
        seed = int(digest([manner.seed, use, self.number, number])[:12], 16)
        limit = self.plan.critique_tokens if use == "critique" else manner.max_new_tokens
        return self.speaker.ask(conversations, replace(manner, seed=seed, max_new_tokens=limit))


def demonstrations(rows: Sequence[Row], constitution: Constitution, model: str) -> Iterator[Row]:
    """TRL rows `{prompt, completion, metadata}` of the chains that ended in a good revision.

    `metadata` keeps the prompt's own tags, the principles and the number of rounds whose revisions
    were kept, and the first answer.
    """
    for row in rows:
        if row["final"] is not None:
            yield {
                "prompt": row["prompt"],
                "completion": [_assistant(row["final"])],
                "metadata": _provenance(row, constitution, model),
            }


def pairs(rows: Sequence[Row], constitution: Constitution, model: str) -> Iterator[Row]:
    """TRL rows `{prompt, chosen, rejected, metadata}`: the revision over the first answer.

    An unfinished first answer makes no pair: that it is cut off would be what is learned.
    """
    for row in rows:
        if row["final"] is not None and row["first"]["finished"]:
            yield {
                "prompt": row["prompt"],
                "chosen": [_assistant(row["final"])],
                "rejected": [_assistant(row["first"]["text"])],
                "metadata": _provenance(row, constitution, model),
            }


def summarise(rows: Sequence[Row]) -> Summary:
    """Count what was kept, and what was left out under which reason."""
    out = Summary(prompts=len(rows))
    for row in rows:
        if row["final"] is not None:
            out.kept += 1
            if row["first"]["finished"]:
                out.pairs += 1
            else:
                out.first_left_out["truncated"] += 1
        else:
            out.left_out[row["reason"]] += 1
        for one in row["rounds"]:
            out.rounds += 1
            counts = out.by_principle.setdefault(one["principle"], [0, 0])
            counts[1] += 1
            if one["kept"]:
                out.rounds_kept += 1
                counts[0] += 1
            else:
                out.rounds_left_out[one["reason"]] += 1
    return out


def _assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def _provenance(row: Row, constitution: Constitution, model: str) -> Row:
    kept = [one["principle"] for one in row["rounds"] if one["kept"]]
    return {
        **row["tags"],
        "constitution": f"{constitution.name}@{constitution.hash}",
        "principles": ", ".join(kept),
        "rounds": len(kept),
        "revised_by": model,
        "first_answer": row["first"]["text"],
    }
