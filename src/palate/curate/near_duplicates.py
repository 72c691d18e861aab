"""Near-duplicates: examples that say the same twice, and prompts that belong on one side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, takewhile

from palate.curate.clusters import find_clusters
from palate.curate.rejects import OnReject, reject
from palate.curate.said import answer_text, asked, compared
from palate.curate.shingles import common_shingles
from palate.records import Example

PROMPTS_ALIKE = 0.5
"""Similarity at which two prompts belong on one side of the split: see docs/curation.md."""
FRAME_SHARE = 0.25
"""What stands in this share of all prompts is their frame, and tells none of them apart."""
_FRAME_LEAST = 5
_FRAME_SAMPLE, _FRAME_LETTERS = 20_000, 1 << 25  # texts, and their letters together


def drop_near_duplicates(
    examples: Sequence[Example], on_reject: OnReject, similarity: float
) -> list[Example]:
    """The examples without those that repeat another in slightly other words, in their order.

    Two are alike if what the user said is, and each answer is like its counterpart: chosen like
    chosen, rejected like rejected, and without a verdict thumbs equal. So the later turns of a
    conversation, whose history grows, stay, and so do contradictions, which are another matter.
    What is alike over others is one cluster, of which stays the example that most rows vouch for,
    by equal numbers the one with the smallest content hash. The others are ``near-duplicate``.
    """
    rows = [_parts(example) for example in examples]
    roots = list(range(len(rows)))
    frame = _frame([asked(example) for _, example in sorted(_by_prompt(examples).items())])
    for same in _by_labels(examples):
        found = find_clusters((rows[row] for row in same), similarity, frame)
        for row, first in zip(same, found.tolist(), strict=True):
            roots[row] = same[first]
    members: dict[int, list[int]] = {}
    for row, root in enumerate(roots):
        members.setdefault(root, []).append(row)
    kept = {
        root: min(inside, key=lambda row: (-len(examples[row].provenance), examples[row].id))
        for root, inside in members.items()
        if len(inside) > 1
    }
    out: list[Example] = []
    for row, (root, example) in enumerate(zip(roots, examples, strict=True)):
        if root in kept and kept[root] != row:
            on_reject(reject(example, "near-duplicate", f"like {_named(examples[kept[root]])}"))
        else:
            out.append(example)
    return out


def prompt_groups(examples: Sequence[Example], similarity: float = PROMPTS_ALIKE) -> list[str]:
    """For each example the name of the cluster of near-duplicates that its prompt is in.

    Compared is what the user said, in all turns (`said.asked`). A cluster is named by the smallest
    `prompt_key` in it, so that a prompt that is like no other is a group under its own key.
    """
    firsts = _by_prompt(examples)
    keys = sorted(firsts)
    texts = [asked(firsts[key]) for key in keys]
    roots = find_clusters(((text,) for text in texts), similarity, _frame(texts))
    # Sorted keys, and the first row of each cluster as its root: the root is the smallest key.
    name = {key: keys[root] for key, root in zip(keys, roots.tolist(), strict=True)}
    return [name[example.prompt_key] for example in examples]


def _by_prompt(examples: Sequence[Example]) -> dict[str, Example]:
    """The first example of each prompt, by the prompt's key."""
    firsts: dict[str, Example] = {}
    for example in examples:
        firsts.setdefault(example.prompt_key, example)
    return firsts


def _frame(texts: Sequence[str]) -> frozenset[int]:
    """The instructions that a product puts around what its users say.

    Without this, prompts of one long template would all be near-duplicates. `texts` are in the
    order of their keys, which are hashes: the first of them are a fair sample.
    """
    letters = accumulate(map(len, texts[:_FRAME_SAMPLE]))
    count = sum(1 for _ in takewhile(lambda total: total <= _FRAME_LETTERS, letters))
    return common_shingles(texts[: max(1, count)], FRAME_SHARE, _FRAME_LEAST)


def _parts(example: Example) -> list[str]:
    answers = [answer_text(completion) for completion in compared(example)]
    return [asked(example), *answers] if example.prompt else answers


def _by_labels(examples: Sequence[Example]) -> list[list[int]]:
    """The rows that are pairs; of others, those with equal thumbs, or as many answers without.

    Of a pair the verdict is what counts: by which rule it came about makes no difference.
    """
    groups: dict[tuple[bool | None, ...] | str, list[int]] = {}
    for row, example in enumerate(examples):
        labels = tuple(completion.label for completion in compared(example))
        groups.setdefault("pair" if example.verdict else labels, []).append(row)
    return list(groups.values())


def _named(example: Example) -> str:
    where = "".join(f" at {p.source}:{p.line}" for p in example.provenance[:1])
    return f"{example.id}{where}, which stays"
