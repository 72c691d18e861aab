"""What a world's annotators say: pairs of the reference's answers, the better one first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from palate.experiments.world import World
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch

_ROWS = 4096  # of a table over all answers at once


@dataclass(frozen=True, slots=True)
class Pairs:
    """Numbers of a prompt, of the chosen and of the rejected answer: [N] each."""

    prompt: Tensor
    chosen: Tensor
    rejected: Tensor

    def __len__(self) -> int:
        return len(self.prompt)

    def of(self, rows: slice) -> Pairs:
        """Some of them."""
        return Pairs(self.prompt[rows], self.chosen[rows], self.rejected[rows])


def masses(logps_PA: Tensor, pairs: Pairs) -> tuple[float, float, float]:
    """Probability of what was chosen, of what was only rejected, and of what is in no pair.

    Of each prompt by itself, and then the mean.
    """
    masks = torch.zeros(3, *logps_PA.shape, dtype=torch.bool)
    masks[0, pairs.prompt, pairs.chosen] = True
    masks[1, pairs.prompt, pairs.rejected] = True
    masks[1] &= ~masks[0]
    masks[2] = ~(masks[0] | masks[1])
    chosen, rejected, neither = (float((logps_PA.exp() * one).sum(1).mean()) for one in masks)
    return chosen, rejected, neither


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Numbers of a prompt and an answer, and whether its thumb is up: [N] each."""

    prompt: Tensor
    answer: Tensor
    up: Tensor

    def __len__(self) -> int:
        return len(self.prompt)


def draw_thumbs(pairs: Pairs, up: float, seed: int) -> Thumbs:
    """Of each pair one answer: the chosen one, thumb up, of a share `up` of them."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pairs), generator=draw)
    ups = torch.zeros(len(pairs), dtype=torch.bool)
    ups[order[: round(up * len(pairs))]] = True
    return Thumbs(pairs.prompt, torch.where(ups, pairs.chosen, pairs.rejected), ups)


def draw_pairs(
    policy_PA: Tensor,
    scores_PA: Tensor,
    count: int,
    seed: int,
    *,
    flips: float = 0.0,
    rivals: Callable[[Tensor], Tensor] | None = None,
) -> Pairs:
    """`count` pairs of a policy's unequal answers (log-probs [P, A]), judged by scores.

    The first wins with probability σ(s_first − s_second) (Bradley-Terry); then a share `flips`
    of the labels is turned over. `rivals` says which answers may stand beside the first: of the
    firsts' numbers [n] a table [n, A] of whether; without it, all others may.
    """
    draw = torch.Generator().manual_seed(seed)
    prompt = torch.randint(len(policy_PA), (count,), generator=draw)
    p = policy_PA.exp()
    up_to = p.cumsum(1)
    first = _drawn(up_to, prompt, _uniform(count, draw) * up_to[prompt, -1])
    if rivals is None:
        second = _other(up_to, prompt, first, draw)
    else:
        second = _rival(p, prompt, first, rivals, draw)
    gap = scores_PA[prompt, first] - scores_PA[prompt, second]
    wins = _uniform(count, draw) < gap.sigmoid()
    wins ^= torch.rand(count, generator=draw) < flips
    return Pairs(prompt, torch.where(wins, first, second), torch.where(wins, second, first))


def _uniform(count: int, draw: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draw, dtype=torch.float64)


def _drawn(up_to_PA: Tensor, prompt: Tensor, at: Tensor) -> Tensor:
    """The answer within whose part of a prompt's mass, laid end to end, a place `at` is, [n]."""
    found = torch.empty_like(prompt)
    for number, up_to in enumerate(up_to_PA):
        asked = prompt == number
        found[asked] = torch.searchsorted(up_to, at[asked], right=True)
    return found.clamp(max=up_to_PA.shape[1] - 1)


def _other(up_to_PA: Tensor, prompt: Tensor, first: Tensor, draw: torch.Generator) -> Tensor:
    """An answer drawn for each row, given that it is not the first: its part is left out."""
    end, total = up_to_PA[prompt, first], up_to_PA[prompt, -1]
    begin = torch.where(first > 0, up_to_PA[prompt, first - 1], 0.0)
    at = _uniform(len(prompt), draw) * (begin + (total - end))
    return _drawn(up_to_PA, prompt, torch.where(at < begin, at, end + (at - begin)))


def _rival(
    p_PA: Tensor,
    prompt: Tensor,
    first: Tensor,
    rivals: Callable[[Tensor], Tensor],
    draw: torch.Generator,
) -> Tensor:
    """An answer drawn for each row of those that may stand beside the first, and not that one."""
    found = []
    for asked, one in zip(prompt.split(_ROWS), first.split(_ROWS), strict=True):
        allowed = (p_PA[asked] * rivals(one)).scatter(1, one[:, None], 0.0)
        found.append(torch.multinomial(allowed, 1, generator=draw)[:, 0])
    return torch.cat(found)


class Words:
    """A world's prompts and answers as token ids, each branch made once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._prompts = [tuple(row) for row in world.prompts.tolist()]
        said = zip(world.answers.tolist(), world.tokens_A.tolist(), strict=True)
        self._answers = [tuple(row[:tokens]) for row, tokens in said]
        self._prompt = {row: number for number, row in enumerate(self._prompts)}
        self._answer = {row: number for number, row in enumerate(self._answers)}
        self._made: dict[tuple[int, int], Branch] = {}

    def branch(self, prompt: int, answer: int) -> Branch:
        """Prompt and answer, of which the answer is learned."""
        key = (prompt, answer)
        if key not in self._made:
            asked, said = self._prompts[prompt], self._answers[answer]
            mask = [False] * len(asked) + [True] * len(said)
            self._made[key] = Branch([*asked, *said], mask)
        return self._made[key]

    def place(self, branch: Branch) -> tuple[int, int]:
        """Whose branch it is: the numbers of its prompt and its answer."""
        ids, asked = tuple(branch.ids), self.world.prompts.shape[1]
        return self._prompt[ids[:asked]], self._answer[ids[asked:]]

    def example(self, prompt: int, answers: Sequence[int]) -> Rendered:
        """A prompt with some of its answers; equal prompts are one conversation."""
        branches = tuple(self.branch(prompt, answer) for answer in answers)
        return Rendered(str(prompt), len(self._prompts[prompt]), branches, str(prompt))


def examples(words: Words, data: Pairs | Thumbs, shape: str) -> list[Rendered]:
    """The data as a method of that shape reads it.

    `demonstration`: the chosen answers; `labelled`: each answer with its thumb.
    """
    found: list[Rendered] = []
    if isinstance(data, Thumbs):
        assert shape == "labelled", shape
        for prompt, answer, up in _rows(data.prompt, data.answer, data.up):
            found.append(replace(words.example(prompt, (answer,)), desirable=bool(up)))
        return found
    for prompt, chosen, rejected in _rows(data.prompt, data.chosen, data.rejected):
        if shape == "pair":
            found.append(words.example(prompt, (chosen, rejected)))
        elif shape == "demonstration":
            found.append(words.example(prompt, (chosen,)))
        else:
            assert shape == "labelled", shape
            for answer, up in ((chosen, True), (rejected, False)):
                found.append(replace(words.example(prompt, (answer,)), desirable=up))
    return found


def _rows(*columns: Tensor) -> Iterator[tuple[int, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)
