"""Drawing a token: how, with which uniform number, from which distribution.

Answer k to prompt i has a stream of uniform numbers of its own, a pure function of
(seed, i, k), and each token is drawn by inverting the cumulative distribution. So draws do not
depend on how prompts are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Tokens whose probabilities are summed up before the vocabulary is searched.
_BLOCK = 128
# Likeliest tokens that are looked at before the whole vocabulary is sorted for `top_p`.
_NUCLEUS = 1024
# Divided by less than this, logits may be too large for fp32, and their softmax not a number.
_LEAST = 1e-5
View = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw: a temperature below 1e-5 is greedy, `top_k` 0 draws from the whole vocabulary.

    `top_p` keeps the likeliest tokens whose shares, after temperature and `top_k`, sum up to it
    (arXiv 1904.09751). `seed` may be several numbers, such as a run's seed and a step's number.
    """

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int = 50
    seed: int | tuple[int, ...] = 0
    top_p: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, and none is drawn."""
        return self.temperature < _LEAST

    def uniforms(self, prompt: int, answer: int) -> np.ndarray:
        """The uniform numbers in [0, 1) of one answer's tokens, float64 [max_new_tokens]."""
        seed = (self.seed,) if isinstance(self.seed, int) else self.seed
        return np.random.default_rng([*seed, prompt, answer]).random(self.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: its ids, end-of-turn included where the answer `finished`.

    `logps` has log π of each token under the model's whole distribution at temperature 1,
    whatever temperature, `top_k` or mixture drew it: what a trainer's log-probs are to equal.
    """

    ids: tuple[int, ...]
    finished: bool
    logps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Mixture:
    """Draw from π^(1 − weight) · π_other^weight, normalised at each token (arXiv 2312.00886).

    Inside the context that `other` makes, the policy is the other one: the reference, for
    example, with the adapter switched off. At weight 0 the other one is not computed.
    """

    weight: float
    other: View

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"a mixture's weight lies between 0 and 1, not at {self.weight}")


def views(mixture: Mixture | None) -> list[View]:
    """The contexts in which logits are computed for each token, the policy's own first."""
    plain: list[View] = [nullcontext]
    return plain if mixture is None or mixture.weight == 0 else [*plain, mixture.other]


def pick(
    logits: Sequence[Tensor], uniform_B: Tensor, sampling: Sampling, weight: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A token for each row, [B], and its log-prob under the policy at temperature 1, fp32 [B].

    `logits` has the policy's, [B, V], and with a mixture the other one's.
    """
    ours_BV = logits[0].float()
    token_B = draw(_mixed(ours_BV, logits[1:], weight), uniform_B, sampling)
    logp_B = ours_BV.log_softmax(dim=-1).gather(1, token_B[:, None])[:, 0]
    return token_B, logp_B


def _mixed(ours_BV: Tensor, others: Sequence[Tensor], weight: float) -> Tensor:
    if not others:
        return ours_BV
    other_BV = others[0].float()
    return other_BV if weight == 1 else (1 - weight) * ours_BV + weight * other_BV


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> Tensor:
    """One token for each row, [B].

    The cumulative distribution runs in the order of the vocabulary, so that two tokens which
    are almost equally likely do not change places by the last bit of a logit.
    """
    if sampling.greedy:
        return logits_BV.argmax(dim=-1)
    size = logits_BV.shape[-1]
    if sampling.top_k == 0 or sampling.top_k >= size:
        share_BV = torch.softmax(logits_BV / sampling.temperature, dim=-1)
        return _invert(_nucleus(share_BV, sampling.top_p), uniform_B)
    token_BK = logits_BV.topk(sampling.top_k, dim=-1, sorted=False).indices.sort(dim=-1).values
    top_BK = logits_BV.gather(1, token_BK)
    share_BK = torch.softmax(top_BK / sampling.temperature, dim=-1)
    index_B = _invert(_nucleus(share_BK, sampling.top_p), uniform_B)
    return token_BK.gather(1, index_B[:, None])[:, 0]


def _nucleus(share_BN: Tensor, top_p: float) -> Tensor:
    """The shares with 0 for those outside the nucleus; the likeliest is always inside.

    What is as likely as the last one inside is inside too.
    """
    if top_p >= 1:
        return share_BN
    count = min(_NUCLEUS, share_BN.shape[-1])
    likely_BC = share_BN.topk(count, dim=-1).values
    if count < share_BN.shape[-1] and bool((likely_BC.sum(dim=-1) < top_p).any()):
        likely_BC = share_BN.sort(dim=-1, descending=True).values
    above_BC = likely_BC.double().cumsum(dim=-1) - likely_BC
    inside_B1 = (above_BC < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    least_B1 = likely_BC.gather(1, inside_B1 - 1)
    return share_BN.where(share_BN >= least_B1, 0.0)


def _invert(weight_BN: Tensor, uniform_B: Tensor) -> Tensor:
    """The first index at which the cumulative share exceeds the uniform number, [B].

    First among blocks, then inside one: the running sum over a vocabulary in float64 would
    take longer than the softmax.
    """
    blocks_BCK = functional.pad(weight_BN, (0, -weight_BN.shape[-1] % _BLOCK)).unflatten(
        -1, (-1, _BLOCK)
    )
    above_BC = blocks_BCK.sum(dim=-1).double().cumsum(dim=-1)
    target_B1 = uniform_B[:, None].to(above_BC) * above_BC[:, -1:]
    block_B1 = _exceeds(above_BC, target_B1)
    inside_BK = blocks_BCK.take_along_dim(block_B1[:, :, None], dim=1)[:, 0].double()
    before_B1 = above_BC.gather(1, block_B1) - inside_BK.sum(dim=-1, keepdim=True)
    left_B1 = (target_B1 - before_B1).clamp(min=0)  # the two sums round differently
    index_B1 = _exceeds(inside_BK.cumsum(dim=-1), left_B1)
    return (block_B1 * _BLOCK + index_B1)[:, 0]


def _exceeds(running_BN: Tensor, target_B1: Tensor) -> Tensor:
    """Where a running sum first exceeds the target; where it reaches its end, if it never does."""
    found_B1 = torch.searchsorted(running_BN, target_B1, right=True)
    return torch.minimum(found_B1, torch.searchsorted(running_BN, running_BN[:, -1:].contiguous()))
