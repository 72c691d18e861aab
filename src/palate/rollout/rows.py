"""What a rollout holds: answers by prompt, and how they come through a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from palate.records import Example
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch

Origin = Literal["own", "reference", "mixture", "demonstration"]


@dataclass(slots=True)
class Spoken:
    """One answer: its branch (prompt included), its words, and what the judge made of it.

    `logps` are the sampler's, one for each token of the answer. `reward` is None until it is
    judged, and stays so where the judge failed (`failure`).
    """

    branch: Branch
    text: str
    finished: bool
    logps: tuple[float, ...]
    origin: Origin = "own"
    reward: float | None = None
    passed: bool | None = None
    failure: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the answer, its end included."""
        return sum(self.branch.mask)


@dataclass(slots=True)
class Group:
    """A prompt's answers: `own` are the policy's, `others` come from elsewhere."""

    row: int
    example: Example
    prompt_length: int
    own: list[Spoken]
    others: list[Spoken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lesson:
    """An example to learn from, which belongs to the group of a prompt's row.

    `logps` are the sampler's, of a single answer that was sampled.
    """

    row: int
    rendered: Rendered
    logps: tuple[float, ...] = ()


def pack_lessons(
    lessons: Sequence[Lesson], reference: Sequence[Tensor] | None
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Lessons as tensors and JSON, for a checkpoint; `unpack_lessons` gives equal ones back."""
    tensors: dict[str, Tensor] = {}
    words = []
    branches = [branch for lesson in lessons for branch in lesson.rendered.branches]
    if branches:
        ids = [torch.tensor(list(b.ids), dtype=torch.int32) for b in branches]
        masks = [torch.tensor(list(b.mask), dtype=torch.uint8) for b in branches]
        tensors = {"ids": torch.cat(ids), "mask": torch.cat(masks)}
        for name in lessons[0].rendered.columns:
            values = [lesson.rendered.columns[name] for lesson in lessons]
            tensors[f"column/{name}"] = torch.cat(values)
        if reference is not None:
            tensors["logps"] = torch.cat(list(reference))
    for lesson in lessons:
        one = lesson.rendered
        words.append(
            {
                "row": lesson.row,
                "id": one.example_id,
                "prompt": one.prompt_length,
                "lengths": [len(branch.ids) for branch in one.branches],
                "conversation": one.conversation,
                "told": dict(one.told),
            }
        )
    return tensors, words


def unpack_lessons(
    tensors: Mapping[str, Tensor], words: Sequence[Mapping[str, Any]]
) -> tuple[list[Lesson], list[Tensor] | None]:
    """Inverse of `pack_lessons`."""
    at = token = 0
    lessons: list[Lesson] = []
    reference: list[Tensor] | None = [] if "logps" in tensors else None
    columns = {
        name.removeprefix("column/"): values
        for name, values in tensors.items()
        if name.startswith("column/")
    }
    for word in words:
        branches = []
        for length in word["lengths"]:
            ids = tensors["ids"][at : at + length].tolist()
            mask = [bool(m) for m in tensors["mask"][at : at + length].tolist()]
            branches.append(Branch(ids, mask))
            at += length
        count = sum(sum(branch.mask) for branch in branches)
        taken = {name: values[token : token + count].clone() for name, values in columns.items()}
        if reference is not None:
            reference.append(tensors["logps"][token : token + count].clone())
        token += count
        rendered = Rendered(
            word["id"],
            word["prompt"],
            tuple(branches),
            word["conversation"],
            columns=taken,
            told=dict(word["told"]),
        )
        lessons.append(Lesson(word["row"], rendered))
    return lessons, reference
