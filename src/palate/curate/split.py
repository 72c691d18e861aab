"""Train and held-out, divided by group and never by row."""

from __future__ import annotations

from collections.abc import Sequence

from palate.config import nearest
from palate.records import Example, digest

TAG = "tag:"


def split(
    examples: Sequence[Example],
    heldout: float,
    by: str = "prompt",
    heldout_values: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[list[Example], list[Example]]:
    """(train, held-out), each in the order of `examples`.

    `by` is ``prompt`` or ``tag:NAME``. Groups are taken in the order of a hash of seed and
    group, as long as each brings the held-out share of prompts closer to `heldout`; so the
    result is a function of the seed and the groups, whatever the order of the rows. Tag values
    that share a prompt count as one group. `heldout_values` names the held-out tag values
    instead; a prompt that they share with another value is held out whole, so that no prompt
    is ever on both sides.

    Raises `ValueError` for a tag or value that does not exist, or if a side would be empty.
    """
    groups = _group_of(examples, by)
    if heldout_values is not None:
        held = _named(examples, by, heldout_values)
    elif heldout == 0:
        return list(examples), []
    else:
        held = _drawn(examples, groups, heldout, by, seed)
    train = [example for example in examples if example.prompt_key not in held]
    out = [example for example in examples if example.prompt_key in held]
    if not train or not out:
        empty = "training" if not train else "the held-out part"
        raise ValueError(f"nothing is left for {empty}: name other data.heldout_values")
    return train, out


def _group_of(examples: Sequence[Example], by: str) -> dict[str, str]:
    """The group of each prompt: itself, or the smallest of the tag values it is joined with."""
    if by == "prompt":
        return {example.prompt_key: example.prompt_key for example in examples}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for example in examples:
        value = _tag(examples, example, by)
        ours, theirs = sorted((root(value), root(first.setdefault(example.prompt_key, value))))
        parent[theirs] = ours
    return {prompt: root(value) for prompt, value in first.items()}


def _tag(examples: Sequence[Example], example: Example, by: str) -> str:
    if not by.startswith(TAG):
        raise ValueError(f"cannot split by '{by}': write prompt, or tag:NAME")
    name = by.removeprefix(TAG)
    if name not in example.tags:
        lacking = sum(name not in other.tags for other in examples)
        known = sorted({tag for other in examples for tag in other.tags})
        raise ValueError(
            f"cannot split by '{by}': {lacking} of {len(examples)} examples lack the tag"
            + (nearest(name, known) if known and name not in known else "")
            + ("" if known else "; the rows have no tags at all")
        )
    return example.tags[name]


def _named(examples: Sequence[Example], by: str, values: Sequence[str]) -> set[str]:
    if not by.startswith(TAG):
        raise ValueError("data.heldout_values needs data.split_by=tag:NAME")
    known = {_tag(examples, example, by) for example in examples}
    for value in values:
        if value not in known:
            raise ValueError(f"no example has the {by} '{value}'{nearest(value, known)}")
    return {e.prompt_key for e in examples if _tag(examples, e, by) in values}


def _drawn(
    examples: Sequence[Example], groups: dict[str, str], heldout: float, by: str, seed: int
) -> set[str]:
    prompts: dict[str, list[str]] = {}
    for prompt, group in groups.items():
        prompts.setdefault(group, []).append(prompt)
    if len(prompts) <= 1:
        raise ValueError(
            f"cannot hold out a share of {len(prompts)} group ({by}) among {len(examples)} "
            "examples: add data, split by something finer, or set data.heldout=0"
        )
    order = sorted(prompts, key=lambda group: digest([seed, group]))
    target = heldout * len(groups)
    chosen: list[str] = []
    taken = 0
    for group in order:
        size = len(prompts[group])
        if abs(taken + size - target) < abs(taken - target):
            chosen.append(group)
            taken += size
    if not chosen:
        chosen = [min(order, key=lambda group: len(prompts[group]))]
    if len(chosen) == len(order):
        chosen.pop()
    return {prompt for group in chosen for prompt in prompts[group]}
