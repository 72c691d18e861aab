"""Mismatched examples: prompts with the completions of other prompts (KTO, arXiv 2402.01306).

Which completion a prompt gets is drawn anew each epoch, from (seed, epoch) and the whole data
set: never from the micro-batch, whose size must not matter, and never from the same prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.tokens.render import Rendered
from palate.tokens.tree import Branch

# Keeps these draws apart from the sampler's, which has the same seed.
_STREAM = 0x4B544F


def derange(names: Sequence[object], seed: int, epoch: int) -> list[int]:
    """A permutation that gives no element one of its own name; drawn from (seed, epoch).

    Elements of one name are put next to each other, names and elements in random order, and all
    take from the element that stands the largest group's size further on. Raises `ValueError`
    where one name has more than half of the elements.
    """
    draw = np.random.default_rng([seed, epoch, _STREAM])
    groups: dict[object, list[int]] = {}
    for index in draw.permutation(len(names)).tolist():
        groups.setdefault(names[index], []).append(index)
    largest = max(len(group) for group in groups.values())
    if 2 * largest > len(names):
        raise ValueError(
            f"{largest} of {len(names)} examples have the same prompt: this method compares "
            "with completions of other prompts; use more prompts, or another method (sft, dpo)"
        )
    circle = [index for group in groups.values() for index in group]
    found = [0] * len(names)
    for place, index in enumerate(circle):
        found[index] = circle[(place + largest) % len(circle)]
    return found


def mismatched(examples: Sequence[Rendered], seed: int, epoch: int) -> list[Rendered]:
    """Each example's prompt with the completion of another prompt's example.

    None is longer than the longest example, so that they fit where the examples do: a completion
    is cut where it would be.
    """
    partners = derange([tuple(e.prompt_ids) for e in examples], seed, epoch)
    limit = max(len(branch.ids) for example in examples for branch in example.branches)
    return [
        join(own, examples[other], limit) for own, other in zip(examples, partners, strict=True)
    ]


def mismatched_with(
    examples: Sequence[Rendered], donors: Sequence[Rendered], seed: int
) -> list[Rendered]:
    """The same for held-out examples, whose completions come from training examples."""
    draw = np.random.default_rng([seed, _STREAM])
    limit = max(len(branch.ids) for e in (*examples, *donors) for branch in e.branches)
    chosen = draw.integers(len(donors), size=len(examples)).tolist()
    return [join(own, donors[other], limit) for own, other in zip(examples, chosen, strict=True)]


def join(own: Rendered, other: Rendered, limit: int) -> Rendered:
    """The prompt of one and the completion of the other, at most `limit` tokens long."""
    prompt, branch = list(own.prompt_ids), other.branches[0]
    ids = [*prompt, *branch.ids[other.prompt_length :]][:limit]
    mask = [*([False] * len(prompt)), *branch.mask[other.prompt_length :]][:limit]
    return Rendered(own.example_id, len(prompt), (Branch(ids, mask),), desirable=own.desirable)
