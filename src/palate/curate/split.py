"""Train and held-out, divided by group and never by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palate.config import nearest
from palate.records import Example, digest

TAG = "tag:"
CLUSTER = "cluster"


def split(
    examples: Sequence[Example],
    heldout: float,
    by: str = "prompt",
    heldout_values: Sequence[str] | None = None,
    seed: int = 0,
    known: Mapping[str, bool] | None = None,
) -> tuple[list[Example], list[Example]]:
    """(train, held-out), each in the order of `examples`.

    `by` is ``prompt``, ``cluster`` (prompts that are near-duplicates count as one, see
    `near_duplicates.prompt_groups`) or ``tag:NAME``. Groups are taken in the order of a hash of
    seed and group, as long as each brings the held-out share of prompts closer to `heldout`; so
    the result is a function of the seed and the groups, whatever the order of the rows. Tag values
    that share a prompt count as one group. `heldout_values` names the held-out tag values instead;
    a prompt that they share with another value is held out whole, so that no prompt is ever on
    both sides. `known` prompts (by `prompt_key`, True for held out) stay on their side, whatever
    was drawn, and take the rest of their group with them; a group of which they are on both sides
    is held out but for those that were trained on.

    Raises `ValueError` for a tag or value that does not exist, or if a side would be empty.
    """
    if heldout == 0 and heldout_values is None and by == CLUSTER:
        return list(examples), []  # clusters take time, and nothing would be asked of them
    prompts = [example.prompt_key for example in examples]
    values = prompts if by == "prompt" else _values(examples, by)
    if heldout_values is not None:
        held = _named(prompts, values, by, heldout_values)
    elif heldout == 0:
        return list(examples), []
    else:
        groups = _groups(prompts, values)
        held = _drawn(groups, heldout, by, seed)
        _follow(groups, known or {}, held)
    for prompt, out in (known or {}).items():
        (held.add if out else held.discard)(prompt)
    sides: tuple[list[Example], list[Example]] = ([], [])
    for prompt, example in zip(prompts, examples, strict=True):
        sides[prompt in held].append(example)
    if not all(sides):
        empty = "the held-out part" if sides[0] else "training"
        cure = "name other data.heldout_values"
        if known and heldout_values is None:
            used = "trained on" if sides[0] else "held out"
            cure = (
                f"an earlier stage {used} all of the prompts; set one data.heldout for all stages"
            )
        raise ValueError(f"nothing is left for {empty}: {cure}")
    return sides


def _values(examples: Sequence[Example], by: str) -> list[str]:
    if by == CLUSTER:
        from palate.curate.near_duplicates import prompt_groups

        return prompt_groups(examples)
    if not by.startswith(TAG):
        raise ValueError(f"cannot split by '{by}': write prompt, cluster, or tag:NAME")
    name = by.removeprefix(TAG)
    lacking = sum(name not in example.tags for example in examples)
    if lacking:
        known = sorted({tag for example in examples for tag in example.tags})
        listed = f"the tags are {', '.join(known[:20])}" if known else "no row has any tag"
        raise ValueError(
            f"cannot split by '{by}': {lacking} of {len(examples)} examples lack it; {listed}"
        )
    return [example.tags[name] for example in examples]


def _groups(prompts: Sequence[str], values: Sequence[str]) -> dict[str, set[str]]:
    """The prompts of each group; values that share a prompt are one, called by the smallest."""
    parent = {value: value for value in values}

    def root(value: str) -> str:
        while parent[value] != value:
            value = parent[value]
        return value

    first: dict[str, str] = {}
    for prompt, value in zip(prompts, values, strict=True):
        smaller, larger = sorted((root(value), root(first.setdefault(prompt, value))))
        parent[larger] = smaller
    groups: dict[str, set[str]] = {}
    for prompt, value in first.items():
        groups.setdefault(root(value), set()).add(prompt)
    return groups


def _follow(groups: dict[str, set[str]], known: Mapping[str, bool], held: set[str]) -> None:
    """Put each group on the side of its known prompts, in `held` itself.

    Else a near-duplicate of what an earlier stage held out could be trained on.
    """
    for group in groups.values():
        sides = {known[prompt] for prompt in group if prompt in known}
        if True in sides:
            held |= group
        elif sides:
            held -= group


def _named(
    prompts: Sequence[str], values: Sequence[str], by: str, wanted: Sequence[str]
) -> set[str]:
    if not by.startswith(TAG):
        raise ValueError("data.heldout_values needs data.split_by=tag:NAME")
    for value in wanted:
        if value not in values:
            raise ValueError(f"no example has the {by} '{value}'{nearest(value, set(values))}")
    chosen = set(wanted)
    return {prompt for prompt, value in zip(prompts, values, strict=True) if value in chosen}


def _drawn(groups: dict[str, set[str]], heldout: float, by: str, seed: int) -> set[str]:
    if len(groups) <= 1:
        raise ValueError(
            f"cannot hold out a share of {len(groups)} group (split by {by}): add data, split by "
            "something finer, or set data.heldout=0"
        )
    order = sorted(groups, key=lambda group: digest([seed, group]))
    target = heldout * sum(map(len, groups.values()))
    chosen: list[str] = []
    taken = 0
    for group in order:
        size = len(groups[group])
        if abs(taken + size - target) < abs(taken - target):
            chosen.append(group)
            taken += size
    if not chosen:
        chosen = [min(order, key=lambda group: len(groups[group]))]
    if len(chosen) == len(order):
        chosen.pop()
    return {prompt for group in chosen for prompt in groups[group]}
