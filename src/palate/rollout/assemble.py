"""From prompts and a learner to the task of an online run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palate.config import ConfigError, RunConfig
from palate.losses.method import Counts, Method
from palate.model.value import add_value_head
from palate.progress import Bar, Reporter
from palate.records import Example
from palate.rollout.crediting import Passes
from palate.rollout.drawing import Drawing
from palate.rollout.judging import Bench
from palate.rollout.reference import IterateReference
from palate.rollout.serving import served_by
from palate.rollout.source import Prompt, Rollouts, Sizes
from palate.sections.rollout import RolloutConfig
from palate.tokens.render import Rendered, Renderer
from palate.tokens.tree import Branch
from palate.train.budget import Budget
from palate.train.parallel import Ranks
from palate.train.selection import check_selectable
from palate.train.setup import Learner
from palate.train.task import Split, Task
from palate.train.trial import settle


def check_alone(ranks: Ranks) -> None:
    """Raise `ConfigError` where several ranks train: one process samples and learns."""
    if ranks.world > 1:
        raise ConfigError(
            "a run with a rollout trains in one process today: start it without torchrun"
        )


def assemble_online(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    chosen: tuple[Method, Any],
    data: tuple[Sequence[Example], Sequence[Example]],
    bench: Bench,
    say: Reporter,
    bars: Callable[[str, int], AbstractContextManager[Bar]],
) -> Task:
    """`data` (training and held-out prompts) as a task whose steps come from rollouts.

    `bars` follow the sampling of each rollout, beside the bar of the training.
    The policy must still have the weights it began with: they are the first reference.
    """
    method, params = chosen
    how = config.rollout
    assert how is not None, "the recipe has a rollout"
    train, heldout = (_prompts(learner.renderer, part) for part in data)
    check_selectable(config.train.best, method, len(heldout))
    if how.answers < _least(method):
        raise ConfigError(
            f"{method.name} compares answers to the same prompt: rollout.answers={how.answers} is "
            f"fewer than {_least(method)}"
        )
    if method.resolve is not None:
        params = method.resolve(params, Counts(len(train), longest=how.max_new_tokens))
    if method.head == "value":
        add_value_head(learner.policy)
    _check_room(learner.renderer, train, how)
    longest = sorted(train, key=lambda prompt: -prompt[1].prompt_length)[: how.prompts]
    chosen = (method, params)
    budget = settle(config, folder, learner, chosen, stand_ins(longest, method, how), say)
    source = _rollouts(config, folder, learner, chosen, (train, heldout), bench, budget, bars)
    return Task(
        policy=learner.policy,
        method=method,
        params=params,
        train=Split([rendered for _, rendered in train], None),
        heldout=Split([rendered for _, rendered in heldout], None),
        optim=config.optim,
        config=config.train,
        lr=learner.lr,
        seed=config.seed,
        folder=folder,
        budget=budget,
        source=source,
    )


def _rollouts(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    chosen: tuple[Method, Any],
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    bench: Bench,
    budget: Budget,
    bars: Callable[[str, int], AbstractContextManager[Bar]],
) -> Rollouts:
    """The source of the run's steps."""
    (method, params), (train, heldout), how = chosen, prompts, config.rollout
    assert how is not None, "the recipe has a rollout"
    reference = IterateReference(learner)
    drawing = Drawing(
        policy=learner.policy,
        renderer=learner.renderer,
        config=how,
        method=method,
        params=params,
        reference=reference,
        seed=config.seed,
        bar=bars,
        served=served_by(config, folder, learner, method),
    )
    sizes = Sizes.of(how, method, len(train), config.train)
    return Rollouts(
        sizes,
        train,
        _measured(heldout, config.evaluate.samples),
        drawing,
        bench,
        Passes(learner.policy, reference, method, params, budget.first),
        budget,
        folder,
    )


def _least(method: Method) -> int:
    assert method.online is not None, "the method samples"
    return method.online.least


def _prompts(renderer: Renderer, examples: Sequence[Example]) -> list[Prompt]:
    """Each prompt as it is asked; its demonstration is rendered when it is due."""
    return [(example, renderer.asked(example)) for example in examples]


def _measured(heldout: Sequence[Prompt], samples: int) -> list[Prompt]:
    """The held-out prompts that are answered at each measurement: by a hash, if there are more."""
    if len(heldout) <= samples:
        return list(heldout)
    return sorted(heldout, key=lambda prompt: prompt[0].prompt_key)[:samples]


def _check_room(renderer: Renderer, prompts: Sequence[Prompt], how: RolloutConfig) -> None:
    """Raise `ConfigError` where an answer may outgrow what a row may hold."""
    longest = max(rendered.prompt_length for _, rendered in prompts)
    if longest + how.max_new_tokens > renderer.max_length:
        raise ConfigError(
            f"a prompt of {longest} tokens and an answer of rollout.max_new_tokens="
            f"{how.max_new_tokens} are more than data.max_length={renderer.max_length}: set "
            f"data.max_prompt_length={max(1, renderer.max_length - how.max_new_tokens)}, or fewer "
            "new tokens"
        )


def stand_ins(prompts: Sequence[Prompt], method: Method, how: RolloutConfig) -> list[Rendered]:
    """What the lessons of these prompts are at most: answers of the greatest length.

    For estimates, and the trial that settles the token budget; nobody learns from them.
    """
    each = 2 if method.shape == "pair" else 1
    lessons = []
    for example, asked in prompts:
        ids = list(asked.prompt_ids)
        for number in range(how.answers if method.shape == "sample" else 1):
            branches = tuple(
                _stand_in(ids, how.max_new_tokens, number * each + side) for side in range(each)
            )
            lessons.append(_told(Rendered(example.id, len(ids), branches), method))
    return lessons


def _stand_in(ids: Sequence[int], tokens: int, number: int) -> Branch:
    """An answer made of the prompt's own tokens; each number begins elsewhere and shares little."""
    answer = [ids[(number + place) % len(ids)] for place in range(tokens)]
    return Branch([*ids, *answer], [False] * len(ids) + [True] * tokens)


def _told(lesson: Rendered, method: Method) -> Rendered:
    """With what a loss reads of samples, so that the trial can compute it."""
    count = sum(sum(branch.mask) for branch in lesson.branches)
    zeros = torch.zeros(count)
    names = ("old", "advantage", "return", "value") if method.shape == "sample" else ()
    told = {"reward": 0.0, "wins_chosen": 1.0, "wins_rejected": 0.0, "reference_chosen": 0.0}
    return replace(lesson, columns=dict.fromkeys(names, zeros), told=told)
