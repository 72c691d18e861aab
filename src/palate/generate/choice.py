"""Which engine samples from a model: the fast one where it is proved exact, the padded one else."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from palate.generate.continuous import continuous
from palate.generate.draw import Sampling
from palate.model.kernels import heads_of
from palate.model.policy import Policy
from palate.model.probe import beyond_the_probe

# Nats a token: at most, in fp32; in the mean, where products are rounded to bf16.
_FP32, _BF16 = 1e-4, 0.1
_SHARED, _PROMPT, _ANSWER = 20, 2, 4
_PROVED: WeakKeyDictionary[Policy, str | None] = WeakKeyDictionary()


def why_padded(policy: Policy, longest: int) -> str | None:
    """Why this model is sampled from in padded batches; None where the fast engine serves.

    `longest` counts the tokens of the longest prompt with its answer: a sliding window that
    is no shorter cuts nothing. The engine is tried on the model the first time.
    """
    config = policy.model.config.get_text_config()
    beyond = beyond_the_probe(config)
    if beyond is not None:
        return beyond
    window = min((w for w in heads_of(config).windows if w is not None), default=longest)
    if window < longest:
        return f"a sliding window of {window} tokens, for texts of up to {longest}"
    if policy not in _PROVED:
        _PROVED[policy] = _prove(policy)
    return _PROVED[policy]


def _prove(policy: Policy) -> str | None:
    """Sample with the fast engine, and compare its log-probs with the model's own.

    Prompts share a beginning, answers end at different times, and prompts come in while
    others are answered.
    """
    try:
        difference_N = _differences(policy)
    except Exception as error:  # noqa: BLE001 whatever a foreign model raises: padded then
        return f"the fast engine failed on this model: {type(error).__name__}: {error}"
    fp32 = policy.precision == "fp32"
    found = float(difference_N.max() if fp32 else difference_N.mean())
    if not found <= (_FP32 if fp32 else _BF16):
        return f"the fast engine's log-probs differ by {found:.1e} nats a token"
    return None


@torch.no_grad()
def _differences(policy: Policy) -> Tensor:
    size = policy.model.config.get_text_config().vocab_size
    draw = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(0, size, (count,), generator=draw).tolist()

    shared = tokens(_SHARED)
    prompts = [[*shared, *tokens(_PROMPT + k)] for k in range(2)]
    drawn = continuous(
        policy,
        prompts,
        Sampling(_ANSWER, temperature=1.0, top_k=0),
        end_ids=range(size // 8),
        n=2,
        batch_size=3,
        advance=lambda count: None,
        mixture=None,
    )
    pairs = [
        (prompt, answer)
        for prompt, answers in zip(prompts, drawn, strict=True)
        for answer in answers
    ]
    ids = [torch.tensor([*prompt, *answer.ids]) for prompt, answer in pairs]
    rows = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(policy.device)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    policy.attend(policy.plain_attention)
    with policy.autocast():
        out = policy.model(input_ids=rows, attention_mask=mask.to(policy.device), use_cache=False)
    logps_BT = out.logits.float().log_softmax(-1)[:, :-1].gather(2, rows[:, 1:, None])[..., 0].cpu()
    return torch.cat(
        [
            (logps_BT[row, len(prompt) - 1 :][: len(answer.ids)] - torch.tensor(answer.logps)).abs()
            for row, (prompt, answer) in enumerate(pairs)
        ]
    )
