"""Methods that sample what they learn from, in a world: judged by the truth or by a model of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.config import RolloutConfig
from palate.experiments.data import Pairs, Words
from palate.experiments.learner import copied
from palate.experiments.training import PLAN, TOKENS, Lab, Watch, in_a_folder
from palate.judge.compare import ByScore
from palate.judge.opinion import Answered, Closing, Score
from palate.losses.method import Counts, Method
from palate.losses.registry import find
from palate.model.policy import Policy
from palate.model.value import add_value_head
from palate.progress import Quiet
from palate.records import Completion, Example, Message
from palate.rollout.crediting import Passes
from palate.rollout.drawing import Drawing
from palate.rollout.judging import Bench
from palate.rollout.reference import IterateReference
from palate.rollout.source import Prompt, Rollouts, Sizes
from palate.tokens.render import Rendered, Renderer
from palate.tokens.tree import build_forest
from palate.train.budget import Budget
from palate.train.setup import Learner
from palate.train.task import Split, Task

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NUMBER = "number"  # the tag of an example that says which prompt it asks


@dataclass(frozen=True, slots=True)
class Sampled:
    """How a rollout is drawn: so many prompts, and answers to each.

    `updates` are the passes over them, `fresh` the rollouts from one reference to the next; None:
    as the method has it. `shown` are the pairs whose chosen answers a method that learns from
    demonstrations is shown. With `doubt`, each score comes with noise of Gumbel's, so that of two
    answers the better one wins as annotators would have it (Bradley-Terry).
    """

    prompts: int = 8
    answers: int = 16
    updates: int | None = None
    fresh: int | None = None
    shown: Pairs | None = None
    doubt: bool = False


EACH_PROMPT = Sampled()


def drawn(method: str, steps: int, sampled: Sampled) -> int:
    """How many answers a run of so many steps draws, each of which takes a whole rollout."""
    online = find({"name": method}, sampled=True)[0].online
    assert online is not None, "the method samples"
    updates = online.updates if sampled.updates is None else sampled.updates
    return math.ceil(steps / updates) * sampled.prompts * sampled.answers


@torch.no_grad()
def score_table(scorer: Policy, words: Words) -> Tensor:
    """What a policy with a scalar head says of every answer, [P, A] in float64."""
    rows = []
    for prompt in range(len(words.world.prompts)):
        branches = [words.branch(prompt, answer) for answer in range(len(words.world.answers))]
        scores_B = scorer(build_forest(branches, share=False)).scores_B
        assert scores_B is not None, "the policy has a scalar head"
        rows.append(scores_B.double())
    return torch.stack(rows)


class ByTable(Closing):
    """A judge that looks an answer up in a table of scores, [P, A]."""

    name = "table"

    def __init__(self, words: Words, scores_PA: Tensor, noise: torch.Generator | None = None):
        self._scores: list[list[float]] = scores_PA.tolist()
        self._noise = noise
        self._number = {_spelled(row): n for n, row in enumerate(words.world.answers.tolist())}

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        found = [
            self._scores[int(one.example.tags[_NUMBER])][self._number[one.text]] for one in answers
        ]
        if self._noise is not None:
            # Two of these differ by a logistic number: P(s₁ + n₁ > s₂ + n₂) = σ(s₁ − s₂).
            draws = torch.rand(len(found), generator=self._noise, dtype=torch.float64)
            noise = (-(-draws.log()).log()).tolist()
            found = [score + more for score, more in zip(found, noise, strict=True)]
        return [Score(score) for score in found]


class WorldRenderer(Renderer):
    """Writes a world's symbols as letters; nothing ends an answer but its length."""

    def __init__(self, words: Words) -> None:
        self.words, self.end_ids = words, frozenset()

    def text(self, ids: Sequence[int]) -> str:
        """Letters."""
        return _spelled(ids)

    def asked(self, example: Example) -> Rendered:
        """The prompt, with an answer that nobody reads."""
        return self.words.example(int(example.tags[_NUMBER]), (0,))

    def render(self, example: Example) -> Rendered:
        """The prompt with the example's answer."""
        said = [_LETTERS.index(letter) for letter in example.completions[0].text]
        answers = self.words.world.answers
        place = int((answers == torch.tensor(said)).all(1).nonzero()[0, 0])
        return self.words.example(int(example.tags[_NUMBER]), (place,))


def _spelled(ids: Sequence[int]) -> str:
    return "".join(_LETTERS[number] for number in ids)


def train_online(
    lab: Lab,
    name: str,
    params: Mapping[str, Any],
    scores_PA: Tensor,
    sampled: Sampled = EACH_PROMPT,
    watch: Watch | None = None,
) -> Policy:
    """The policy that a method makes of its own samples, from a copy of the reference.

    Answers are judged by `scores_PA`, the truth or a reward model's; between two answers the one
    with the score s₁ wins with probability σ(s₁ − s₂).
    """
    assert not lab.words.world.ends, "an answer that is drawn ends by its length alone"
    method, given = find({"name": name, **params}, sampled=True)
    policy, words = copied(lab.start), lab.words
    if method.head == "value":
        add_value_head(policy)
    if method.resolve is not None:
        longest = words.world.answers.shape[1]
        given = method.resolve(given, Counts(len(words.world.prompts), longest=longest))
    noise = torch.Generator().manual_seed(lab.seed) if sampled.doubt else None
    bench = bench_of(method, ByTable(words, scores_PA, noise))
    chosen = method, given

    def make(folder: Path) -> Task:
        source = _rollouts(lab, policy, chosen, bench, sampled, folder)
        config = lab.settings(lab.effort.batch, lab.effort.steps)
        if watch is not None:
            config = config.model_copy(update={"log_every": watch.every})
        return replace(lab.task(policy, chosen, Split([], None), config, folder), source=source)

    return in_a_folder(make, watch)


def bench_of(method: Method, judge: ByTable) -> Bench:
    """The judge in the part that the method asks for."""
    online = method.online
    assert online is not None, "the method samples"
    if online.judge == "none":
        return Bench(None, None, ring=False)
    if online.judge == "preference":
        return Bench(None, ByScore(judge, bradley_terry=True), ring=online.against == "own")
    return Bench(judge, None, ring=False)


def _rollouts(
    lab: Lab,
    policy: Policy,
    chosen: tuple[Method, Any],
    bench: Bench,
    sampled: Sampled,
    folder: Path,
) -> Rollouts:
    (method, params), words = chosen, lab.words
    renderer = WorldRenderer(words)
    learner = Learner(
        policy=policy,
        adapted=None,
        tokenizer=None,
        renderer=renderer,
        plan=PLAN,
        lr=lab.effort.lr,
        switch=nullcontext,
        reference=lambda: policy,
    )
    config = RolloutConfig(
        prompts=sampled.prompts,
        answers=sampled.answers,
        updates=sampled.updates,
        fresh_reference=sampled.fresh,
        max_new_tokens=words.world.answers.shape[1],
        batch_size=sampled.prompts * sampled.answers,
    )
    reference, budget = IterateReference(learner), Budget(PLAN)
    prompts = _prompts(renderer, words, sampled.shown)
    drawing = Drawing(policy, renderer, config, method, params, reference, lab.seed, Quiet().bar)
    # Passes over the prompts that are surely enough: steps end a run here.
    loop = lab.settings(lab.effort.batch, lab.effort.steps * sampled.prompts)
    return Rollouts(
        Sizes.of(config, method, len(prompts), loop),
        prompts,
        [],
        drawing,
        bench,
        Passes(policy, reference, method, params, TOKENS),
        budget,
        folder,
    )


def _prompts(renderer: WorldRenderer, words: Words, shown: Pairs | None) -> list[Prompt]:
    """Every prompt of the world once, or those of the pairs with their chosen answers."""
    rows: list[tuple[int, int | None]] = [(n, None) for n in range(len(words.world.prompts))]
    if shown is not None:
        rows = list(zip(shown.prompt.tolist(), shown.chosen.tolist(), strict=True))
    found = []
    for prompt, answer in rows:
        asked = Message("user", _spelled(words.world.prompts[prompt].tolist()))
        completions: tuple[Completion, ...] = ()
        if answer is not None:
            text = _spelled(words.world.answers[answer].tolist())
            completions = (Completion((Message("assistant", text),)),)
        example = Example((asked,), completions, tags={_NUMBER: str(prompt)})
        found.append((example, renderer.asked(example)))
    return found
