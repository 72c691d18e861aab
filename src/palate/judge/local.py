"""A language model in this process as a judge.

It is asked what a model behind a server is asked (`palate.judge.llm`), and its reply is not
sampled: the probabilities of the letters, or of the digits, are read where the reply would
begin. So there is nothing to parse, every verdict is soft, and both orders are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.judge.holding import BUDGET, Held, hold_language_model
from palate.judge.opinion import Answered, Closing, Opinion, Question, Score
from palate.judge.orders import Failed, Told, as_score, both_orders
from palate.judge.prompts import LETTERS, Asked, comparison, rating
from palate.judge.verdicts import normalised
from palate.sections import JudgeConfig


class LocalJudge(Closing):
    """Compares and rates; see the module. A question that is too long is a failure."""

    def __init__(self, config: JudgeConfig, held: Held | None = None) -> None:
        assert config.model is not None
        self.name, self._config = config.label, config
        self._held: Held | None = held or hold_language_model(config.model, config.device)
        added = self._held.renderer.tokenizer.get_added_vocab()
        self._special = tuple(token for token in added if not token.isspace())
        for choice in LETTERS:
            self._tokens(choice)

    def with_rubric(self, rubric: str) -> LocalJudge:
        """The same judge and the same loaded model with another rubric."""
        return LocalJudge(self._config.model_copy(update={"rubric": rubric}), self._held)

    def close(self) -> None:
        """Let go of the model."""
        self._held = None

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion each, in order."""
        asked = [
            comparison(q, self._config.rubric, swapped=swapped, special=self._special)
            for q in questions
            for swapped in (False, True)
        ]
        told = self._ask(asked)
        return [
            both_orders(one, other, self._config.tie)
            for one, other in zip(told[::2], told[1::2], strict=True)
        ]

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score in [0, 1] each, in order: the mean rating."""
        asked = [rating(a, self._config.rubric, special=self._special) for a in answers]
        return [as_score(told) for told in self._ask(asked)]

    def _ask(self, asked: Sequence[Asked]) -> list[Told | Failed]:
        from palate.model.score import score
        from palate.tokens.render import Rendered
        from palate.tokens.tree import Branch

        if not asked:
            return []
        held = self._open()
        spelled = [(c, token) for c in asked[0].choices for token in self._tokens(c)]
        prompts = [self._prompt(one) for one in asked]
        rendered = [
            Rendered(
                "",
                len(ids),
                tuple(Branch([*ids, t], [False] * len(ids) + [True]) for _, t in spelled),
            )
            for ids in prompts
            if not isinstance(ids, Failed)
        ]
        logps = iter(score(held.policy, rendered, BUDGET))
        return [
            ids if isinstance(ids, Failed) else _told(next(logps).tolist(), spelled)
            for ids in prompts
        ]

    def _prompt(self, asked: Asked) -> list[int] | Failed:
        from palate.tokens.render import Unusable

        held = self._open()
        try:
            ids = held.renderer.prompt(asked.messages)
        except Unusable as error:
            return Failed(str(error))
        if len(ids) >= held.limit:
            return Failed(f"{len(ids)} tokens, and the model reads {held.limit}")
        return ids

    def _tokens(self, choice: str) -> list[int]:
        """The ids that say a choice at the beginning of a reply, with or without a space."""
        tokenizer = self._open().renderer.tokenizer
        found: dict[int, None] = {}
        for text in (choice, f" {choice}", f"\n{choice}"):
            *_, last = tokenizer(text, add_special_tokens=False)["input_ids"]
            if tokenizer.decode([last]).strip() == choice:
                found[last] = None
        if not found:
            raise ValueError(
                f"{self._config.model} cannot judge: its tokenizer has no token for {choice} alone"
            )
        return list(found)

    def _open(self) -> Held:
        assert self._held is not None, "a judge is not asked after it is closed"
        return self._held


def _told(logps: Sequence[float], spelled: Sequence[tuple[str, int]]) -> Told | Failed:
    """Probabilities of the choices, and as what was said all of them."""
    sums: dict[str, list[float]] = {}
    for (choice, _), logp in zip(spelled, logps, strict=True):
        sums.setdefault(choice, []).append(logp)
    chances = normalised({choice: _log_sum(values) for choice, values in sums.items()})
    if chances is None:
        return Failed("the model's probabilities are no numbers")
    return chances, " ".join(f"{choice} {chance:.4f}" for choice, chance in chances.items())


def _log_sum(values: Sequence[float]) -> float:
    """log Σ exp; NaN stays NaN."""
    highest = max(values)
    if not math.isfinite(highest):
        return math.nan if any(map(math.isnan, values)) else highest
    return highest + math.log(sum(math.exp(value - highest) for value in values))
