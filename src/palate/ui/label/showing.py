"""An item, and a word on it, as the facts that a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.curate.said import answer_text
from palate.records import Completion, Example, Message
from palate.store.database import Store
from palate.store.items import Item, example_of_item, home
from palate.store.voting import CLEARLY, SLIGHTLY, Word, word, word_id
from palate.ui.label.masking import masked
from palate.ui.label.ranking import canonical, share

STEPS = ("clearly-first", "slightly-first", "tie", "slightly-second", "clearly-second")
"""What can be said of two answers in the order in which they are shown, beside `BOTH_BAD`."""
BOTH_BAD = "both-bad"
THUMBS = {"up": True, "down": False}
_ABOUT = 90  # letters of the question, in the list of last votes


def order_of(store: Store, item: Item, annotator: str, turn: int) -> tuple[int, ...]:
    """In which order the annotator sees the item's answers in that round.

    A word that was said before keeps its order; a second round swaps that of the first. Otherwise
    it follows from annotator and item, so that a page that is loaded again shows the same.
    """
    stands = home(store, item)
    if stands is not None:
        before = word(store, word_id(annotator, stands, item.places, turn))
        if before is not None:
            return before.shown
        first = word(store, word_id(annotator, stands, item.places)) if turn else None
        if first is not None:
            return first.shown[::-1]
    swapped = share("side", annotator, canonical(item)) < 0.5
    return item.places[::-1] if swapped != (turn == 1) else item.places


def shown_item(store: Store, item: Item, annotator: str, turn: int) -> dict[str, Any]:
    """The item without the names of models, and what the annotator has said of it before.

    Raises `ValueError` if it is not in the store any more.
    """
    example = example_of_item(store, item)
    shown = order_of(store, item, annotator, turn)
    stands = home(store, item)
    said = None if stands is None else word(store, word_id(annotator, stands, item.places, turn))
    names = [c.source for c in example.completions if c.source]
    return {
        "item": item.key,
        "round": turn,
        "kind": "pair" if len(item.places) == 2 else "single",
        "turns": [_turn(message) for message in example.prompt],
        "tools": [_tool_name(tool) for tool in example.tools],
        "answers": [_answer(example.completions[place], names) for place in shown],
        "said": None if said is None else said_of(said),
    }


def entry(example: Example, item: Item, said: Word) -> dict[str, Any]:
    """A word in the list of last votes: models and lengths are named, for it was said."""
    asked = next((m.content for m in reversed(example.prompt) if m.role == "user"), "")
    answers = [example.completions[place] for place in said.shown]
    return {
        "item": item.key,
        "round": said.round,
        "kind": "pair" if len(said.shown) == 2 else "single",
        "about": " ".join(asked.split())[:_ABOUT],
        "models": [answer.source for answer in answers],
        "lengths": [len(answer_text(answer).split()) for answer in answers],
        "time": said.time,
        **said_of(said),
    }


def said_of(said: Word) -> dict[str, Any]:
    """A word as `word_from` reads it: `say`, `note`, `edit`."""
    return {"say": _say(said), "note": said.comment or "", "edit": said.edit}


def _say(said: Word) -> str:
    if said.kind in {"skip", "flag", "tie"}:
        return said.kind
    if said.kind == "thumb":
        return "up" if said.label else "down"
    if said.choice is None:
        return BOTH_BAD
    side = "first" if said.choice == said.shown[0] else "second"
    slight = said.strength is not None and said.strength < CLEARLY
    return f"{'slightly' if slight else 'clearly'}-{side}"


def word_from(
    say: str, annotator: str, interaction: str, shown: Sequence[int], turn: int, **more: Any
) -> Word:
    """What the page said, as a word; `say` is one of `STEPS`, `BOTH_BAD`, `THUMBS`, skip, flag.

    Raises `ValueError` where it does not fit to so many answers.
    """
    where = (annotator, interaction, tuple(shown))
    if say in {"skip", "flag"}:
        return Word(*where, say, round=turn, **more)  # type: ignore[arg-type]  # one of two kinds
    if len(shown) == 1 and say in THUMBS:
        return Word(*where, "thumb", shown[0], label=THUMBS[say], round=turn, **more)
    if len(shown) == 2 and say == BOTH_BAD:
        return Word(*where, "vote", None, round=turn, **more)
    if len(shown) == 2 and say in STEPS:
        at = STEPS.index(say)
        if at == 2:
            return Word(*where, "tie", shown[0], shown[1], round=turn, **more)
        better, worse = shown if at < 2 else shown[::-1]
        strength = CLEARLY if at in {0, 4} else SLIGHTLY
        return Word(*where, "vote", better, worse, strength, round=turn, **more)
    known = [*STEPS, BOTH_BAD] if len(shown) == 2 else list(THUMBS)
    raise ValueError(f"'{say[:40]}' is nothing to say of this item: {', '.join(known)}")


def _answer(completion: Completion, names: Sequence[str]) -> dict[str, Any]:
    """`text` as it is shown; `whole` as it was written, where that differs, for who edits it."""
    whole = answer_text(completion)
    text = masked(whole, names)
    return {"text": text, "whole": None if text == whole else whole}


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": answer_text(Completion((message,)))}


def _tool_name(tool: dict[str, Any]) -> str:
    inner = tool.get("function", tool)
    return str(inner.get("name", "?")) if isinstance(inner, dict) else "?"
