"""A tiny transformer that lives in a world: what it says of every answer, and how it begins.

Its vocabulary are the world's symbols, and nothing ends an answer but its length, so that the
log-probs of all answers sum to one for each prompt.
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
            vocab_size=world.symbols,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=length,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    return Policy(model.eval())


def logps(policy: Policy, world: World, prompts: list[int] | None = None) -> Tensor:
    """log π of every answer, [P, A] in float64; of some prompts by their numbers.

    An answer's last symbol is read off its beginning, so that V^(T-1) rows give V^T answers.
    """
    chosen = world.prompts if prompts is None else world.prompts[prompts]
    symbols, length = world.symbols, world.answers.shape[1]
    beginnings = world.answers[::symbols, :-1]  # the last symbol varies fastest
    rows = torch.cat(
        [
            chosen.repeat_interleave(len(beginnings), 0),
            beginnings.repeat(len(chosen), 1),
        ],
        1,
    )
    policy.attend(policy.plain_attention)
    logits = policy.model(input_ids=rows).logits[:, -length:]
    each = logits.double().log_softmax(-1).view(len(chosen), len(beginnings), length, symbols)
    said = each[:, :, :-1].gather(-1, beginnings.expand(len(chosen), -1, -1).unsqueeze(-1))
    found: Tensor = (said.squeeze(-1).sum(-1, keepdim=True) + each[:, :, -1]).flatten(1)
    return found


@torch.no_grad()
def table(policy: Policy, world: World) -> Tensor:
    """`logps` of all prompts, without gradient."""
    return torch.cat([logps(policy, world, [number]) for number in range(len(world.prompts))])


def human(world: World, seed: int) -> Tensor:
    """What people write here, as log-probs [P, A]: by potentials that are not the reward's."""
    parts = potentials(seed + _HUMAN, world.symbols, world.answers.shape[1])
    written = energy(world.prompts, world.answers, *parts)
    return (_CONTRAST * written).log_softmax(1)


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
