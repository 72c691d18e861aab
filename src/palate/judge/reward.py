"""A trained reward model as a judge: the number that its scalar head gives to an answer.

The answer is rendered as in training, and the score is read at its last token, the end of turn;
of an answer that was cut off, at the last token that there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from palate.judge.holding import BUDGET, Held, hold_reward_model
from palate.judge.opinion import Answered, Closing, Score
from palate.judge.rendering import scores_of
from palate.sections import JudgeConfig

if TYPE_CHECKING:
    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch


class RewardScorer(Closing):
    """Scores are log-odds without a zero of their own: only differences mean something.

    An answer that the model's template or length does not allow has a failure.
    """

    def __init__(self, config: JudgeConfig, held: Held | None = None) -> None:
        assert config.model is not None
        self.name = config.label
        self._held: Held | None = held or hold_reward_model(config.model, config.device)

    def close(self) -> None:
        """Let go of the model."""
        self._held = None

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        assert self._held is not None, "a judge is not asked after it is closed"
        return scores_of(self._held, answers, partial(_values, self._held))


def _values(held: Held, rendered: list[Rendered]) -> list[float]:
    branches = [one.branches[0] for one in rendered]
    order = sorted(range(len(branches)), key=lambda index: len(branches[index].ids))
    found = [0.0] * len(branches)
    for rows in _batches([len(branches[index].ids) for index in order]):
        indices = [order[row] for row in rows]
        values = _scores(held, [branches[index] for index in indices])
        for index, value in zip(indices, values, strict=True):
            found[index] = value
    return found


def _batches(lengths: Sequence[int]) -> list[range]:
    """Rows of ascending length, cut so that each padded batch has at most `BUDGET` tokens."""
    out, begin = [], 0
    for row, length in enumerate(lengths):
        if row > begin and (row - begin + 1) * length > BUDGET:
            out.append(range(begin, row))
            begin = row
    return [*out, range(begin, len(lengths))] if lengths else []


def _scores(held: Held, branches: Sequence[Branch]) -> list[float]:
    import torch

    from palate.tokens.tree import build_forest

    with torch.no_grad():
        out = held.policy(build_forest(branches, share=False).to(held.policy.device))
    assert out.scores_B is not None
    values: list[float] = out.scores_B.double().cpu().tolist()
    return values
