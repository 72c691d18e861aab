"""What a model finds likely: the answers of the data, and answers that it samples itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.runs import is_run, run_config, run_folder
from palate.progress import Reporter
from palate.records import Example

if TYPE_CHECKING:
    from palate.cli.talk import Talk
    from palate.curate.lint import TargetModel
    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch

# Answers are compared by their first so many tokens: later ones are likelier, in what a model
# writes as in what it reads, so both sides have to be equally long.
_TOKENS = 128
_BUDGET = 4096  # tokens of one forward pass


def open_model(model: str, say: Reporter) -> tuple[TargetModel, Callable[[str], int]]:
    """A run's model, or one as in a recipe, and the function that counts its tokens.

    It samples from the whole of its distribution (temperature 1), which is what its log-probs
    are of. Raises `ValueError` with the cure.
    """
    from palate.cli.talk import open_talk
    from palate.curate.lint import TargetModel

    talk = open_talk(model, None, 1.0, _TOKENS, 0, say, scores=True)

    def count(text: str) -> int:
        return len(talk.renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    def logprobs(examples: Sequence[Example]) -> list[list[float]]:
        return _given(talk, examples, say)

    def own(examples: Sequence[Example]) -> list[float]:
        return _sampled(talk, examples, say)

    return TargetModel(Path(model).name or model, _names(model), logprobs, own), count


def _names(model: str) -> tuple[str, ...]:
    """What a log may call it; of a run also the model that it was trained from."""
    names = [model, Path(model).name]
    if is_run(model):
        base = run_config(run_folder(model)).model.path
        names += [base, Path(base).name]
    return tuple(dict.fromkeys(name for name in names if name))


def _given(talk: Talk, examples: Sequence[Example], say: Reporter) -> list[list[float]]:
    """For each example the mean log-prob of a token of each answer; none if it cannot be read."""
    rendered = [_rendered(talk, example) for example in examples]
    usable = [one for one in rendered if one is not None]
    scores = iter(_means(talk, usable, "answers", say))
    return [next(scores) if one is not None else [] for one in rendered]


def _rendered(talk: Talk, example: Example) -> Rendered | None:
    from palate.tokens.render import Rendered, Unusable

    if not example.prompt:
        return None
    try:
        whole = talk.renderer.render(example.oriented("pair") if example.verdict else example)
    except Unusable:
        return None
    branches = tuple(_first_tokens(branch) for branch in whole.branches)
    return Rendered(whole.example_id, whole.prompt_length, branches)


def _first_tokens(branch: Branch) -> Branch:
    """The branch up to the last of its first tokens that are trained on."""
    from palate.tokens.tree import Branch

    seen = 0
    for at, trained in enumerate(branch.mask):
        seen += trained
        if seen == _TOKENS:
            return Branch(branch.ids[: at + 1], branch.mask[: at + 1])
    return branch


def _sampled(talk: Talk, examples: Sequence[Example], say: Reporter) -> list[float]:
    """The mean log-prob of a token of one answer that the model samples to each prompt."""
    from palate.generate.sampling import Sampling, sample
    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch

    prompts = [_prompt(talk, example) for example in examples]
    asked = [prompt for prompt in prompts if prompt]
    with say.bar("sampling", len(asked)) as bar:
        drawn = sample(
            talk.policy,
            asked,
            Sampling(_TOKENS, temperature=1.0, top_k=0),
            end_ids=tuple(talk.renderer.end_ids),
            advance=bar.advance,
        )
    rendered = []
    for prompt, (answer,) in zip(asked, drawn, strict=True):
        ids = [*prompt, *answer.ids]
        mask = [False] * len(prompt) + [True] * len(answer.ids)
        rendered.append(Rendered("", len(prompt), (Branch(ids, mask),)))
    means = iter(_means(talk, rendered, "own answers", say))
    return [next(means)[0] if prompt else math.nan for prompt in prompts]


def _prompt(talk: Talk, example: Example) -> list[int]:
    """The prompt's tokens; none if the model cannot read it and answer."""
    from palate.tokens.render import Unusable

    if not example.prompt:
        return []
    try:
        ids = talk.renderer.prompt(example.prompt, example.tools)
    except Unusable:
        return []
    return ids if len(ids) + _TOKENS <= min(talk.limit, talk.renderer.max_length) else []


def _means(
    talk: Talk, rendered: Sequence[Rendered], title: str, say: Reporter
) -> list[list[float]]:
    """For each item, for each of its branches, the mean log-prob of its trained tokens, in nats."""
    from palate.model.score import score

    with say.bar(title, len(rendered)) as bar:
        scores = score(talk.policy, rendered, _BUDGET, bar.advance)
    found = []
    for one, values in zip(rendered, scores, strict=True):
        parts = values.double().split([sum(branch.mask) for branch in one.branches])
        found.append([float(part.mean()) for part in parts])
    return found
