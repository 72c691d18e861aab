"""A tiny transformer that lives in a world: what it says of every answer, and how it begins.

Its vocabulary are the world's symbols, with an end if the world's answers have one; an answer of
the world's length needs none. So the probabilities of all answers sum to one for each prompt.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from palate.experiments.world import World, energy, potentials
from palate.model.policy import Policy

WIDTH, LAYERS, HEADS = 64, 2, 4
# How much of an answer's probability under the reference the "human" potentials decide.
_CONTRAST = 0.6
_FIT_STEPS, _FIT_LR = 600, 3e-3
_HUMAN = 1_000_003  # apart from the seed of the rewards


def new_policy(world: World, seed: int) -> Policy:
    """A random transformer of the world's symbols, in fp32.

    GPT-2's, because it knows places: what an answer is worth depends on them, and with rotary
    positions a beginning that looks like any other symbol is no place to count from.
    """
    torch.manual_seed(seed)
    length = world.prompts.shape[1] + world.answers.shape[1]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=world.vocabulary,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=length,
            activation_function="gelu_pytorch_tanh",  # one kernel
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    return Policy(model.eval(), layout="plain")


def token_logps(policy: Policy, world: World, prompts: list[int] | None = None) -> Tensor:
    """log π of every symbol of every answer, [P, A, T] in float64, 0 where an answer has ended.

    Of some prompts by their numbers. An answer's last symbol is read off its beginning, so that
    V^(T-1) rows give V^T answers.
    """
    chosen = world.prompts if prompts is None else world.prompts[prompts]
    length = world.answers.shape[1]
    beginnings, row_A = world.answers[:, :-1].unique(dim=0, return_inverse=True)
    rows = torch.cat(
        [chosen.repeat_interleave(len(beginnings), 0), beginnings.repeat(len(chosen), 1)], 1
    )
    policy.attend(policy.plain_attention)
    logits = policy.model(input_ids=rows).logits[:, -length:]
    each = logits.double().log_softmax(-1).view(len(chosen), len(beginnings), length, -1)
    answers = world.answers.expand(len(chosen), -1, -1).unsqueeze(-1)
    said = torch.arange(length) < world.tokens_A[:, None]
    found: Tensor = each[:, row_A].gather(-1, answers).squeeze(-1) * said
    return found


def logps(policy: Policy, world: World, prompts: list[int] | None = None) -> Tensor:
    """log π of every answer, [P, A] in float64; of some prompts by their numbers."""
    return token_logps(policy, world, prompts).sum(-1)


@torch.no_grad()
def token_table(policy: Policy, world: World) -> Tensor:
    """`token_logps` of all prompts, without gradient."""
    numbers = range(len(world.prompts))
    return torch.cat([token_logps(policy, world, [number]) for number in numbers])


def table(policy: Policy, world: World) -> Tensor:
    """`logps` of all prompts, without gradient."""
    return token_table(policy, world).sum(-1)


def human(world: World, seed: int) -> Tensor:
    """What people write here, as log-probs [P, A]: by potentials that are not the reward's.

    Where answers end, each length is as frequent as any other, but for 0: −inf.
    """
    parts = potentials(seed + _HUMAN, world.symbols, world.answers.shape[1])
    written = _CONTRAST * energy(world, *parts)
    for words in world.words_A.unique():
        same = world.words_A == words
        written[:, same] = written[:, same].log_softmax(1) if words else -torch.inf
    return written.log_softmax(1)


def reference(world: World, seed: int) -> Policy:
    """The policy that every method begins with: a transformer fitted to what people write."""
    policy = new_policy(world, seed)
    fit(policy, world, human(world, seed), seed=seed)
    return policy


def fit(
    policy: Policy,
    world: World,
    target_PA: Tensor,
    *,
    steps: int = _FIT_STEPS,
    lr: float = _FIT_LR,
    seed: int = 0,
) -> None:
    """Minimise KL(target ‖ π) over all answers, one prompt a step."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        number = int(torch.randint(len(world.prompts), (), generator=draw))
        loss = -(target_PA[number].exp() * logps(policy, world, [number])[0]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def copied(policy: Policy) -> Policy:
    """One with the same weights."""
    return copy.deepcopy(policy)
