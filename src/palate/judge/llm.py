"""A language model behind an OpenAI-compatible server as a judge.

Two answers are compared in both orders (`palate.judge.orders`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from palate.judge.limits import Spent
from palate.judge.opinion import Answered, Closing, Opinion, Question, Score
from palate.judge.orders import Failed, Told, as_score, both_orders
from palate.judge.prompts import Asked, comparison, rating
from palate.judge.server import Body, Server
from palate.judge.verdicts import chances, read_choice
from palate.judge.wire import Reply
from palate.sections import JudgeConfig

_TOP = 20  # the most that servers tell


class LlmJudge(Closing):
    """Compares and rates; see the module. `spent` says what that took.

    A rating is a digit from 1 to 9, or the mean of the digits under their probabilities, mapped
    to [0, 1].
    """

    def __init__(self, config: JudgeConfig, server: Server | None = None) -> None:
        assert config.server is not None
        self.name, self._config = config.label, config
        self._server = server or Server(config.server)
        self._owner = server is None

    @property
    def spent(self) -> Spent:
        """Requests, tokens, cost and failures so far."""
        return self._server.spent

    def with_rubric(self, rubric: str) -> LlmJudge:
        """The same judge with another rubric; limits and connections stay this one's."""
        return LlmJudge(self._config.model_copy(update={"rubric": rubric}), self._server)

    def close(self) -> None:
        """Close the connections, if they are this judge's own."""
        if self._owner:
            self._server.close()

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion each, in order; raises `JudgeStopped` when no more may be asked."""
        asked = [
            comparison(q, self._config.rubric, swapped=swapped, reply=self._config.reply)
            for q in questions
            for swapped in (False, True)
        ]
        told = self._ask(asked)
        return [
            both_orders(one, other, self._config.tie)
            for one, other in zip(told[::2], told[1::2], strict=True)
        ]

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score in [0, 1] each, in order; raises `JudgeStopped` when no more may be asked."""
        asked = [rating(a, self._config.rubric, reply=self._config.reply) for a in answers]
        return [as_score(told) for told in self._ask(asked)]

    def _ask(self, asked: Sequence[Asked]) -> list[Told | Failed]:
        if not asked:
            return []
        read = partial(self._read, asked[0].choices)
        return self._server.ask([self._body(one) for one in asked], read)

    def _body(self, asked: Asked) -> Body:
        more: dict[str, Any] = {}
        if self._config.soft:
            more |= {"logprobs": True, "top_logprobs": _TOP}
        if self._config.reply == "json":
            more["response_format"] = _schema(asked.choices)
        return self._server.body(asked.messages, **more)

    def _read(self, choices: tuple[str, ...], reply: Reply) -> Told:
        """Probabilities of the choices; raises `NoVerdict` for a reply that makes none."""
        choice = read_choice(reply.text, choices, self._config.reply)
        soft = chances(reply.text, choice, choices, reply.tokens) if self._config.soft else None
        return soft or {name: float(name == choice) for name in choices}, reply.text


def _schema(choices: Sequence[str]) -> dict[str, Any]:
    """`response_format` for an object with the key `verdict` alone."""
    verdict = {"type": "string", "enum": list(choices)}
    schema = {
        "type": "object",
        "properties": {"verdict": verdict},
        "required": ["verdict"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "strict": True, "schema": schema},
    }
