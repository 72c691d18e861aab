"""The guard itself: is this prompt one to answer, is this answer one to send?"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.guard.scoring import Scorer, open_scorer
from palate.guard.settings import MODEL, Kind, Saved, read_saved
from palate.ingest.messages import parse_answer, parse_messages
from palate.records import Completion, Example, Message
from palate.tokens.render import Rendered, Unusable

Turns = Sequence[Message | Mapping[str, Any]]
"""A conversation, as records or as the JSON objects of a chat API."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Calibrated P(unsafe), and whether it is above the guard's threshold.

    What cannot be read (too long, or with a control token in its text) is unsafe: `unreadable` is
    the reason, and `p_unsafe` then NaN.
    """

    p_unsafe: float
    unsafe: bool
    unreadable: str | None = None


class Guard:
    """A calibrated classifier. Calls may be made from one thread at a time."""

    def __init__(self, scorer: Scorer, saved: Saved) -> None:
        self.scorer, self.saved = scorer, saved

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> Guard:
        """The guard in a folder that `palate guard train` made, or a copy of it.

        It needs `guard.json` and `model/`. Raises `ValueError` where they are not there, are
        damaged, or do not belong together.
        """
        saved, _ = read_saved(Path(folder))
        return cls(open_scorer(Path(folder) / MODEL, saved.reading, device), saved)

    def check_prompt(self, messages: Turns, tools: Sequence[dict[str, Any]] = ()) -> Verdict:
        """Before generation: the conversation up to and with what the user said last.

        Raises `ValueError` for what is no conversation, or a guard that never saw a prompt.
        """
        return self.check_prompts([messages], tools)[0]

    def check_prompts(
        self, conversations: Sequence[Turns], tools: Sequence[dict[str, Any]] = ()
    ) -> list[Verdict]:
        """`check_prompt` of several at once."""
        nothing = (Completion(()),)
        return self.check(
            [Example(_turns(one), nothing, tools=tuple(tools)) for one in conversations]
        )

    def check_answer(
        self, messages: Turns, answer: str | Turns, tools: Sequence[dict[str, Any]] = ()
    ) -> Verdict:
        """After generation: the conversation, and the answer as text or as messages.

        Raises `ValueError` for what is no conversation, or a guard that never saw an answer.
        """
        return self.check_answers([(messages, answer)], tools)[0]

    def check_answers(
        self,
        answered: Sequence[tuple[Turns, str | Turns]],
        tools: Sequence[dict[str, Any]] = (),
    ) -> list[Verdict]:
        """`check_answer` of several at once."""
        return self.check(
            [
                Example(_turns(messages), (Completion(_answer(answer)),), tools=tuple(tools))
                for messages, answer in answered
            ]
        )

    def check(self, examples: Sequence[Example]) -> list[Verdict]:
        """Verdicts on the first completion of each example, or on the prompt if it is empty."""
        self.require({kind_of(example) for example in examples})
        rows: list[Rendered] = []
        unreadable: dict[int, str] = {}
        for number, example in enumerate(examples):
            try:
                rows.append(self.scorer.render(example))
            except Unusable as error:
                unreadable[number] = error.reason
        scores = iter(self.scorer.scores(rows))
        return [
            Verdict(math.nan, True, unreadable[number])
            if number in unreadable
            else self.verdict(float(next(scores)))
            for number in range(len(examples))
        ]

    def verdict(self, score: float) -> Verdict:
        """What a score says."""
        probability = self.saved.calibration.probabilities(np.array([score]))[0]
        return Verdict(float(probability), score >= self.saved.threshold)

    def require(self, kinds: Collection[Kind]) -> None:
        """Raise `ValueError` for a kind of rows that the guard was not calibrated on."""
        for kind in sorted(kinds):
            if not self.saved.kinds.get(kind):
                knows = " and ".join(f"{name}s" for name in self.saved.kinds)
                raise ValueError(
                    f"this guard was made from {knows} and nobody has measured it on {kind}s: "
                    f"train one on labelled {kind}s"
                )


def kind_of(example: Example) -> Kind:
    """Whether the label is about the prompt or about an answer."""
    return "answer" if example.completions[0].messages else "prompt"


def _turns(messages: Turns) -> tuple[Message, ...]:
    given = [one.to_dict() if isinstance(one, Message) else dict(one) for one in messages]
    if not given:
        raise ValueError("a conversation to check has at least one message")
    return parse_messages(given, "messages")


def _answer(answer: str | Turns) -> tuple[Message, ...]:
    if isinstance(answer, str):
        return (Message("assistant", answer),)
    return parse_answer(
        [m.to_dict() if isinstance(m, Message) else dict(m) for m in answer], "answer"
    )
