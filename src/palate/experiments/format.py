"""What do pairs teach that differ in their form only?

The first symbol of an answer is its form here, the others what it says. A share of the pairs says
the same in two forms, and the better form wins; in the others, what is said wins, in one form. By
the chain rule, KL(π ‖ reference) is that of the form and that of what is said in a form, and so
it can be seen where a policy has moved. Written out as text, the pairs go to `palate data lint`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from palate.curate.lint.registry import lint
from palate.experiments.data import Pairs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, Ground, Scale
from palate.experiments.learner import table
from palate.experiments.runs import Case, Point
from palate.experiments.world import World, measure
from palate.model.policy import Policy
from palate.records import Completion, Example, Message, Verdict

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PAIRS = 0.25  # of the scale's pairs
_READ = 1000  # pairs that lint is given
_OWN = 8  # words of a question's own
_SURE = 100.0  # times what the form is worth: it always wins
_WORDS = [
    "amber",
    "birch",
    "coral",
    "dune",
    "ember",
    "fern",
    "grove",
    "heath",
    "iris",
    "jade",
    "kelp",
    "linen",
]
_FORMS = (
    "- {}\n- {}",  # the form that wins
    "{}, {}",
    "**{}** {}",
    "# {}\n{}",
    "{}\n\n{}",
    "{}, {}!",
    "1. {}\n2. {}",
    "{} and {}?",
)


def cases(scale: Scale) -> list[Case]:
    """Two methods at five shares."""
    methods: dict[str, Mapping[str, Any]] = {"dpo": {"beta": 0.25}, "ipo": {"tau": 0.1}}
    return [
        Case(method, f"{method}, {share:.0%} form only", partial(_run, method, params, share))
        for method, params in methods.items()
        for share in SHARES
    ]


def _run(
    method: str, params: Mapping[str, Any], share: float, ground: Ground, seed: int
) -> list[Point]:
    pairs = mixed(ground, share, seed)
    policy = ground.train(method, params, pairs, seed)
    said = lint(as_text(ground.world, pairs.of(slice(_READ)), seed), seed=seed)
    told = {finding.check for finding in said.findings}
    return [
        {
            "form only": share,
            **_stands(ground, policy),
            "form warned": float(any(name.startswith("surface.") for name in told)),
            "alike noted": float("near-identical" in told),
        }
    ]


def mixed(ground: Ground, share: float, seed: int) -> Pairs:
    """Pairs of which a share differs in the first symbol only, in random order."""
    world = ground.world
    block = len(world.answers) // world.symbols  # answers with one first symbol
    every = torch.arange(len(world.answers))
    count = round(_PAIRS * ground.scale.pairs)
    alike = round(share * count)
    parts = []
    if alike:
        form = -_SURE * (every // block).double().expand(len(world.prompts), -1)

        def same_words(first: Tensor) -> Tensor:
            return every[None] % block == first[:, None] % block

        parts.append(ground.pairs(seed, alike, judged=form, rivals=same_words))
    if count > alike:

        def same_form(first: Tensor) -> Tensor:
            return every[None] // block == first[:, None] // block

        parts.append(ground.pairs(seed + 1, count - alike, rivals=same_form))
    whole = [torch.cat([getattr(one, name) for one in parts]) for name in Pairs.__slots__]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return Pairs(*(column[order] for column in whole))


def _stands(ground: Ground, policy: Policy) -> Point:
    logps = table(policy, ground.world)
    symbols = ground.world.symbols
    first, before = (_forms(one, symbols) for one in (logps, ground.reference))
    form = float((first.exp() * (first - before)).sum(1).mean())
    found = ground.stands(logps)
    # What is said in each form, with the forms as often as before.
    block = logps.shape[1] // symbols
    as_before = logps + (before - first).repeat_interleave(block, 1)
    return {
        "form": form,
        "said": found["kl"] - form,
        "said reward": measure(as_before, ground.reference, ground.world.rewards).reward,
        "best form": float(first[:, 0].exp().mean()),
        "two best": float(first[:, :2].exp().sum(1).mean()),
        **found,
    }


def _forms(logps: Tensor, symbols: int) -> Tensor:
    """log-probs of the first symbol, [P, V]."""
    return logps.view(len(logps), symbols, -1).logsumexp(-1)


def as_text(world: World, pairs: Pairs, seed: int) -> list[Example]:
    """The pairs as conversations: a form around words.

    Every question has words of its own before the prompt's, as people ask the same in many ways;
    lint counts questions, and of eight it could say little.
    """
    draw = random.Random(seed)

    def written(answer: int) -> Completion:
        form, *words = world.answers[answer].tolist()
        first, *rest = (_WORDS[word] for word in words)
        return Completion((Message("assistant", _FORMS[form].format(first, " ".join(rest))),))

    def asked(prompt: int) -> Message:
        own = ["".join(draw.choices("aeioulmnrst", k=6)) for _ in range(_OWN)]
        words = [_WORDS[word] for word in world.prompts[prompt].tolist()]
        return Message("user", " ".join([*own, *words]))

    rows = zip(pairs.prompt.tolist(), pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True)
    return [
        Example((asked(prompt),), (written(chosen), written(rejected)), Verdict(0, 1))
        for prompt, chosen, rejected in rows
    ]


SHARE_OF_FORM = Measure("form only", "pairs that differ in form only", percent=True, digits=1)
FORM = Measure("form", "KL of the form, nats")
SAID = Measure("said", "KL of what is said, nats")
SAID_REWARD = Measure("said reward", "reward, forms as before")
EXPERIMENT = Experiment(
    name="format",
    cases=cases,
    x=SHARE_OF_FORM,
    ys=[FORM, SAID, SAID_REWARD],
    told=[
        FORM,
        SAID,
        KL,
        Measure("best form", "the winning form", percent=True, digits=1),
        Measure("two best", "it and the second", percent=True, digits=1),
        SAID_REWARD,
        Measure("form warned", "lint: surface", percent=True, digits=1),
        Measure("alike noted", "lint: near-identical", percent=True, digits=1),
    ],
)
