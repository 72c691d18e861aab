"""Drawing the tokens of a batch in which every answer has settings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from palate.generate.draw import Sampling, draw
from palate.generate.schedule import Answer
from palate.serve.text import TokenLogp


class Drawn(Protocol):
    """What is asked of an answer's owner; `fresh` gets the token that was drawn."""

    sampling: Sampling
    top: int | None
    fresh: TokenLogp


def draw_each(answers: Sequence[Answer[Any]], logits: list[Tensor]) -> None:
    """A token for each answer, from logits [B, V] and its own settings and uniform number.

    Rows of equal settings are drawn together, which changes nothing of what is drawn. Log-probs
    are computed only for those who asked.
    """
    logits_BV = logits[0].float()
    groups: dict[tuple[float, int, float], list[int]] = {}
    for row, answer in enumerate(answers):
        how: Sampling = answer.key.sampling
        groups.setdefault((how.temperature, how.top_k, how.top_p), []).append(row)
    tokens = [0] * len(answers)
    for rows in groups.values():
        own_BV = logits_BV if len(rows) == len(answers) else logits_BV[rows]
        numbers = [answers[row].uniforms[len(answers[row].ids)] for row in rows]
        uniform_B = torch.tensor(numbers, dtype=torch.float64, device=own_BV.device)
        drawn = draw(own_BV, uniform_B, answers[rows[0]].key.sampling).tolist()
        for row, token in zip(rows, drawn, strict=True):
            tokens[row] = token
    for answer, token in zip(answers, tokens, strict=True):
        answer.ids.append(token)
        answer.key.fresh = TokenLogp(token, 0.0)
    _tell(answers, logits_BV, tokens)


def _tell(answers: Sequence[Answer[Any]], logits_BV: Tensor, tokens: list[int]) -> None:
    """Log-probs at temperature 1 for the answers that asked, and their likeliest tokens."""
    rows = [row for row, answer in enumerate(answers) if answer.key.top is not None]
    if not rows:
        return
    logp_BV = logits_BV[rows].log_softmax(dim=-1)
    most = max(answers[row].key.top for row in rows)
    values, ids = logp_BV.topk(max(1, most), dim=-1)
    for place, row in enumerate(rows):
        count = answers[row].key.top
        top = zip(ids[place, :count].tolist(), values[place, :count].tolist(), strict=True)
        own = float(logp_BV[place, tokens[row]])
        answers[row].key.fresh = TokenLogp(tokens[row], own, tuple(top))
