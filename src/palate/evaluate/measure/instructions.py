"""Are instructions that a program can check still followed? IFEval's figures of both models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.evaluate.following.prompts import OURS as OUR_SET
from palate.evaluate.following.prompts import InstructedPrompt, read_instructions
from palate.evaluate.following.score import FollowingScore, Share, score
from palate.evaluate.measure.answering import Spoken
from palate.evaluate.measure.safety import paired_share
from palate.records import Example, Message
from palate.sections.evaluating import NONE, OURS


def instruction_prompts(choice: str, limit: int | None) -> list[InstructedPrompt]:
    """The prompts that the recipe names; raises `ValueError` for a file of another form."""
    if choice == NONE:
        return []
    return read_instructions(OUR_SET if choice == OURS else choice)[:limit]


def as_examples(prompts: Sequence[InstructedPrompt]) -> list[Example]:
    """The same as prompts to be answered."""
    return [Example((Message("user", one.prompt),), (), tags={"key": one.key}) for one in prompts]


def instructions(
    prompts: Sequence[InstructedPrompt],
    model: Sequence[Sequence[Spoken]],
    base: Sequence[Sequence[Spoken]],
) -> dict[str, Any] | None:
    """Prompts whose instructions are all followed (strict), and IFEval's other three figures.

    `share`, `base_share` and `change` with their intervals are of the prompt-level strict accuracy
    (Zhou et al. 2023, arXiv:2311.07911), which the gate looks at. None where no prompt was asked.
    """
    asked = [
        (prompt, mine[0], theirs[0])
        for prompt, mine, theirs in zip(prompts, model, base, strict=True)
        if mine[0].failure is None and theirs[0].failure is None
    ]
    if not asked:
        return None
    rows = [prompt for prompt, _, _ in asked]
    mine = score(rows, [one.text for _, one, _ in asked])
    theirs = score(rows, [one.text for _, _, one in asked])
    both = [
        (all(ours.strict), all(other.strict))
        for ours, other in zip(mine.prompts, theirs.prompts, strict=True)
    ]
    found = paired_share(both)
    assert found is not None, "there are prompts"
    return {**found, "figures": _figures(mine), "base_figures": _figures(theirs)}


def _figures(found: FollowingScore) -> dict[str, Any]:
    return {
        "prompt_strict": _plain(found.prompt_strict),
        "prompt_loose": _plain(found.prompt_loose),
        "instruction_strict": _plain(found.instruction_strict),
        "instruction_loose": _plain(found.instruction_loose),
        "kinds": {one.kind: _plain(one.strict) for one in found.kinds},
    }


def _plain(share: Share) -> dict[str, Any]:
    return {"share": share.value, "of": share.of, "interval": [share.low, share.high]}
