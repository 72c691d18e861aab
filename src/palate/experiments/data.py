"""What a world's annotators say: pairs of the reference's answers, the better one first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from palate.experiments.world import World
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch


@dataclass(frozen=True, slots=True)
class Pairs:
    """Numbers of a prompt, of the chosen and of the rejected answer: [N] each."""

    prompt: Tensor
    chosen: Tensor
    rejected: Tensor

    def __len__(self) -> int:
        return len(self.prompt)


def draw_pairs(world: World, policy_PA: Tensor, count: int, seed: int, flips: float = 0.0) -> Pairs:
    """`count` pairs of a policy's unequal answers (log-probs [P, A]).

    The first wins with probability σ(r_first − r_second) (Bradley-Terry); then a share `flips`
    of the labels is turned over.
    """
    draw = torch.Generator().manual_seed(seed)
    prompt = torch.randint(len(world.prompts), (count,), generator=draw)
    p = policy_PA.exp()
    first = torch.multinomial(p[prompt], 1, generator=draw)[:, 0]
    second = _another(p[prompt], first, draw)
    gap = world.rewards[prompt, first] - world.rewards[prompt, second]
    wins = torch.rand(count, generator=draw, dtype=torch.float64) < gap.sigmoid()
    wins ^= torch.rand(count, generator=draw) < flips
    return Pairs(prompt, torch.where(wins, first, second), torch.where(wins, second, first))


def _another(p_NA: Tensor, first: Tensor, draw: torch.Generator) -> Tensor:
    """An answer drawn from each row, given that it is not the first."""
    without = p_NA.scatter(1, first[:, None], 0.0)
    return torch.multinomial(without, 1, generator=draw)[:, 0]


class Words:
    """A world's prompts and answers as token ids, each branch made once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._prompts, self._answers = world.prompts.tolist(), world.answers.tolist()
        self._made: dict[tuple[int, int], Branch] = {}

    def branch(self, prompt: int, answer: int) -> Branch:
        """Prompt and answer, of which the answer is learned."""
        key = (prompt, answer)
        if key not in self._made:
            asked, said = self._prompts[prompt], self._answers[answer]
            mask = [False] * len(asked) + [True] * len(said)
            self._made[key] = Branch([*asked, *said], mask)
        return self._made[key]

    def example(self, prompt: int, answers: Sequence[int]) -> Rendered:
        """A prompt with some of its answers; equal prompts are one conversation."""
        branches = tuple(self.branch(prompt, answer) for answer in answers)
        return Rendered(str(prompt), len(self._prompts[prompt]), branches, str(prompt))


def examples(words: Words, pairs: Pairs, shape: str) -> list[Rendered]:
    """The pairs as a method of that shape reads them.

    `demonstration`: the chosen answers; `labelled`: each answer with its thumb.
    """
    rows = zip(pairs.prompt.tolist(), pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True)
    found: list[Rendered] = []
    for prompt, chosen, rejected in rows:
        if shape == "pair":
            found.append(words.example(prompt, (chosen, rejected)))
        elif shape == "demonstration":
            found.append(words.example(prompt, (chosen,)))
        else:
            assert shape == "labelled", shape
            for answer, up in ((chosen, True), (rejected, False)):
                found.append(replace(words.example(prompt, (answer,)), desirable=up))
    return found
