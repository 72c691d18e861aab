"""The texts that an exported model is checked on: held out, rendered as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palate.evaluate.sampled import read_answers
from palate.records import Completion, Example, Message
from palate.ship.source import Source
from palate.tokens.render import Rendered, Unusable


@dataclass(frozen=True, slots=True)
class Text:
    """One text: its ids, the positions whose tokens are measured, and how its prompt reads.

    Position t ≥ 1 is predicted from `ids[:t]`. `prompt` is the text before the answer and
    `prompt_ids` its tokens without a beginning-of-text token that the tokenizer adds; both are
    empty for documents.
    """

    ids: tuple[int, ...]
    scored: tuple[int, ...]
    prompt: str = ""
    prompt_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    """What is measured on, and where it is from, in words for the card."""

    items: tuple[Text, ...]
    origin: str
    unit: str = "token"

    @property
    def tokens(self) -> int:
        """Measured positions."""
        return sum(len(text.scored) for text in self.items)


def held_texts(source: Source, most: int) -> Texts:
    """Texts with about `most` measured tokens, from the run's held-out examples.

    Answers are measured on, where there are any: those of the data, or, of a run that learned
    from its own samples, those that the trained model gave to held-out prompts. Where nothing
    was held out, or nothing of it can be rendered, training examples are measured on. Raises
    `ValueError` where none can be rendered either.
    """
    for origin, examples in _candidates(source):
        items: list[Text] = []
        count = 0
        for text in _texts(source, examples):
            items.append(text)
            count += len(text.scored)
            if count >= most:
                break
        if items:
            return Texts(tuple(items), origin, "text" if source.scores else "token")
    raise ValueError(f"no example of {source.folder / 'snapshot'} can be rendered to check with")


def _candidates(source: Source) -> Iterator[tuple[str, Sequence[Example]]]:
    if source.method.data == "prompt":
        answers = read_answers(source.folder / "samples.jsonl", "after")
        yield (
            "the trained model's answers to held-out prompts",
            [
                Example(a.prompt, (Completion((Message("assistant", a.text),)),))
                for a in answers
                if a.text
            ],
        )
    yield "held-out examples", source.heldout
    why = "none that was held out can be rendered" if source.heldout else "the run held none out"
    yield f"training examples ({why})", source.train


def _texts(source: Source, examples: Sequence[Example]) -> Iterator[Text]:
    renderer = source.renderer
    for example in examples:
        try:
            items = _rendered(source, example)
            prompt = renderer.prompt_text(example.prompt, example.tools) if example.prompt else ""
        except Unusable:
            continue
        for rendered in items:
            begin = 0 if renderer.chat else len(renderer.begin)
            ids = tuple(rendered.prompt_ids)[begin:] if prompt else ()
            for branch in rendered.branches:
                # A prompt alone has no answer: all its tokens but the first are measured.
                scored = [t for t, on in enumerate(branch.mask) if on and t] or range(
                    1, len(branch.ids)
                )
                yield Text(tuple(branch.ids), tuple(scored), prompt, ids)


def _rendered(source: Source, example: Example) -> list[Rendered]:
    if source.method.data == "text":
        return source.renderer.stretches(example)
    if not example.completions:
        return [source.renderer.asked(example)]
    return [source.renderer.render(example)]
