"""What one forward of the fast engine computes, as tensors: one for all layers.

The packed row holds one token of every answer on its way, and behind them the prompts that
come in, as a forest: what they share is computed once, and what a prompt whose keys are still
kept has computed before is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.generate.schedule import Answer, Resident
from palate.model.tiles import Tile, plan_tiles
from palate.tokens.tree import Branch, Forest, build_forest, to_device

# Fewer tokens than this are computed anew rather than looked for.
MIN_KNOWN = 16


@dataclass(frozen=True, slots=True)
class Running:
    """One token of each of B answers, below P prompts with at most G answers each.

    - `ids_B`, `positions_B`: the tokens; `own_B` is how many of its own keys each answer has
      already, `longest` the largest of these and this token.
    - `place_N` [P · G]: the answer at each place below a prompt, any where there is none;
      `where_B` is each answer's place. Both are None where the places are the answers' own order.
    - `prompt_mask_PL`, `own_mask_BK`: 0 where there is a key, −∞ where there is none; None where
      all prompts, or all answers, are of one length.
    - `alone`: the answer, where there is one answer below one prompt.
    """

    ids_B: Tensor
    positions_B: Tensor
    rows_B: Tensor
    own_B: Tensor
    longest: int
    prompts: int
    prompt_length: int
    place_N: Tensor | None
    where_B: Tensor | None
    prompt_mask_PL: Tensor | None
    own_mask_BK: Tensor | None
    alone: object | None


def plan_running(
    answers: Sequence[Answer[Any]], residents: Sequence[Resident[Any]], device: torch.device
) -> Running:
    """Answers that have a token already, in their rows' order."""
    below: list[list[int]] = [[] for _ in residents]
    for row, answer in enumerate(answers):
        below[answer.prompt.row].append(row)
    most = max(len(rows) for rows in below)
    place = np.zeros((len(residents), most), dtype=np.int64)
    where = np.zeros(len(answers), dtype=np.int64)
    for prompt, rows in enumerate(below):
        place[prompt, : len(rows)] = rows
        where[rows] = prompt * most + np.arange(len(rows))
    lengths = np.array([len(resident.ids) for resident in residents])
    own = np.array([len(answer.ids) - 1 for answer in answers])
    ordered = np.array_equal(place.reshape(-1), np.arange(len(answers)))
    place_of = [len(answer.prompt.ids) for answer in answers]

    def tensor(values: Any) -> Tensor:
        return to_device(torch.as_tensor(values), device)

    return Running(
        ids_B=tensor([answer.ids[-1] for answer in answers]),
        positions_B=tensor(own + place_of),
        rows_B=tensor(np.arange(len(answers))),
        own_B=tensor(own),
        longest=int(own.max()) + 1,
        prompts=len(residents),
        prompt_length=int(lengths.max()),
        place_N=None if ordered else tensor(place.reshape(-1)),
        where_B=None if ordered else tensor(where),
        prompt_mask_PL=_mask(lengths, device),
        own_mask_BK=_mask(own + 1, device),
        alone=answers[0] if len(answers) == len(residents) == 1 else None,
    )


def _mask(lengths: np.ndarray[Any, Any], device: torch.device) -> Tensor | None:
    """What is added to scores beyond each length; None where nothing is."""
    most = int(lengths.max())
    if (lengths == most).all():
        return None
    beyond = np.arange(most)[None] >= lengths[:, None]
    mask = np.where(beyond, np.float32("-inf"), np.float32(0))
    return to_device(torch.as_tensor(mask), device)


@dataclass(frozen=True, slots=True)
class Incoming:
    """Prompts that come in: a forest of T packed rows, of which F are computed.

    - `fresh_F`: the packed rows that are computed, with `ids_F`, `positions_F` and the weights
      `which_F` they are computed with.
    - `known_K`: the K others, whose keys are at (`source_K`, `source_position_K`) of the pool.
    - `tiles`: those with a row that is computed; None where that is all of them.
    - `rows_W`, `positions_W`, `packed_W`: where in the pool each prompt's keys go, and from which
      packed row.
    - `last_P`: each prompt's last token among the F rows.
    """

    forest: Forest
    fresh_F: Tensor
    ids_F: Tensor
    which_F: np.ndarray[Any, Any]
    positions_F: Tensor
    known_K: Tensor
    source_K: Tensor
    source_position_K: Tensor
    tiles: tuple[Tile, ...] | None
    rows_W: Tensor
    positions_W: Tensor
    packed_W: Tensor
    last_P: Tensor


def plan_incoming(
    admitted: Sequence[Resident[Any]],
    kept: dict[int, np.ndarray[Any, Any]],
    vocabulary: int,
    device: torch.device,
) -> Incoming:
    """`kept` has the ids of the prompt whose keys are in each row of the pool, before this step.

    All ids may be shifted, see `split_ids`.
    """
    forest = build_forest([Branch(prompt.ids, [False] * len(prompt.ids)) for prompt in admitted])
    paths = [_path(forest, int(last)) for last in forest.last_B.tolist()]
    source = np.full(forest.unique_tokens, -1)
    position = forest.positions_T.numpy()
    counts = []
    for prompt, path in zip(admitted, paths, strict=True):
        row, count = _known(np.array(prompt.ids), kept)
        source[path[:count]] = row
        counts.append(count)
    for path, count in zip(paths, counts, strict=True):
        source[path[count:]] = -1  # known to another prompt below it, but this one needs it
    fresh, known = np.flatnonzero(source < 0), np.flatnonzero(source >= 0)
    new = np.zeros(forest.unique_tokens + 1, dtype=np.int64)
    new[1:] = np.cumsum(source < 0)
    tiles = None
    if len(known):
        tiles = tuple(t for t in plan_tiles(forest, None) if new[t.end] > new[t.start])

    def tensor(values: Any) -> Tensor:
        return to_device(torch.as_tensor(values, dtype=torch.int64), device)

    ids_F, which_F = split_ids(forest.ids_T.numpy()[fresh], vocabulary)
    return Incoming(
        forest=forest.to(device),
        fresh_F=tensor(fresh),
        ids_F=tensor(ids_F),
        which_F=which_F,
        positions_F=tensor(position[fresh]),
        known_K=tensor(known),
        source_K=tensor(source[known]),
        source_position_K=tensor(position[known]),
        tiles=tiles,
        rows_W=tensor(np.repeat([p.row for p in admitted], [len(p.ids) for p in admitted])),
        positions_W=tensor(np.concatenate([np.arange(len(p.ids)) for p in admitted])),
        packed_W=tensor(np.concatenate(paths)),
        last_P=tensor(new[forest.last_B.numpy()]),
    )


def split_ids(ids: Any, vocabulary: int) -> tuple[Any, Any]:
    """(token, weights) of shifted ids, which are token + weights · vocabulary.

    A prompt under the k-th adapter has its ids shifted k times, so that what is shared between
    prompts, now or with keys that are kept, is shared under the same weights only.
    """
    return ids % vocabulary, ids // vocabulary


def weights_of(
    running: Sequence[Answer[Any]], incoming: Incoming | None, vocabulary: int
) -> np.ndarray[Any, Any]:
    """The weights under which each row of a forward is computed: answers, then prompts' tokens."""
    answers = np.array([answer.prompt.ids[0] for answer in running], dtype=np.int64)
    fresh = [] if incoming is None else [incoming.which_F]
    return np.concatenate([split_ids(answers, vocabulary)[1], *fresh])


def _path(forest: Forest, last: int) -> np.ndarray[Any, Any]:
    """The packed rows of the branch that ends at packed row `last`."""
    leaf = next(s for s in forest.segments if s.start <= last < s.end)
    return np.concatenate([np.arange(a, b) for a, b in (*leaf.context, (leaf.start, last + 1))])


def _known(ids: np.ndarray[Any, Any], kept: dict[int, np.ndarray[Any, Any]]) -> tuple[int, int]:
    """The pool's row that begins most like `ids`, and how many tokens; its last never counts."""
    best = (-1, 0)
    for row, other in kept.items():
        size = min(len(ids) - 1, len(other))
        differ = np.flatnonzero(ids[:size] != other[:size])
        count = int(differ[0]) if len(differ) else size
        if count > best[1]:
            best = (row, count)
    return best if best[1] >= MIN_KNOWN else (-1, 0)
