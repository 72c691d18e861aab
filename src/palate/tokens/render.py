"""Render: an example's messages to token ids, with the mask built in the same pass.

The conversation is cut at the places where an answer begins and ends, and each
piece is encoded by itself: the prompt as a server would encode it, the answer as
the model would have sampled it. No token can merge across the border, and the
mask is True exactly on the assistant's tokens of the completion, up to and with
the end-of-turn token (`ENGINE`, traps that peers fell into).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from palate.records import Completion, Example, Message
from palate.tokens.chat import Chat, Unusable
from palate.tokens.tree import Branch

__all__ = ["Rendered", "Renderer", "Unusable"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as tokens: the prompt's length in tokens and one branch per completion.

    `branches[k].ids` is the whole path, prompt included; `conversation` is equal for examples
    of one conversation, and empty where none is known. `desirable` is the completion's thumb,
    of labelled examples. Of samples, `columns` has values for each supervised token (branch by
    branch) and `told` values of the whole example.
    """

    example_id: str
    prompt_length: int
    branches: tuple[Branch, ...]
    conversation: str = ""
    desirable: bool | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    told: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def prompt_ids(self) -> Sequence[int]:
        """The tokens that all completions share by construction."""
        return self.branches[0].ids[: self.prompt_length]


class Renderer:
    """Renders with one tokenizer under one set of limits.

    `template` is ``chat`` (the tokenizer's chat template), ``raw`` (prompt and answer
    as plain text, end-of-text after the answer) or ``auto`` (chat where there is a
    template). With `prompts` a completion without messages is the prompt itself, judged where
    the answer would begin; without, it is an empty answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        template: Literal["auto", "chat", "raw"] = "auto",
        max_length: int = 2048,
        max_prompt_length: int | None = None,
        end_ids: Sequence[int] = (),
        prompts: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if template == "chat" and not has_template:
            raise ValueError(
                "the model's tokenizer has no chat template: set data.template to raw, "
                "or use a model that has one"
            )
        self.chat = has_template and template != "raw"
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        if tokenizer.eos_token_id is None and not end_ids:
            raise ValueError("the tokenizer names no end-of-text token, so answers cannot end")
        self.end_ids = frozenset([*end_ids] or [tokenizer.eos_token_id])
        self.end_id = tokenizer.eos_token_id if not end_ids else end_ids[0]
        self._chat = Chat(tokenizer, sorted(self.end_ids)) if self.chat else None
        self.system_joins = self._chat is not None and self._chat.system_joins
        self.border = _border(tokenizer)
        self.special = sorted(set(tokenizer.get_added_vocab()) & _special_tokens(tokenizer))
        empty = tokenizer("")["input_ids"]
        bos = tokenizer.bos_token_id
        self.begin = [bos] if bos is not None and empty[:1] == [bos] else []

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> list[int]:
        """Ids of a prompt that ends where the assistant's answer begins."""
        return self._prompt_ids(self.prompt_text(messages, tools))

    def _prompt_ids(self, text: str) -> list[int]:
        ids = self._encode(text)
        return ids if self.chat else [*self.begin, *ids]

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        """The text that `prompt` encodes; without a chat template `begin` stands before its ids."""
        if self._chat is None:
            return "\n\n".join(m.content for m in messages)
        return self._chat.text(messages, tools, generate=True)

    def render(self, example: Example) -> Rendered:
        """All completions of an example as branches; raises `Unusable` with the reason."""
        self._refuse_special(example)
        said = self._chat.conversation(example) if self._chat is not None else None
        if said is None:
            prompt_ids = self.prompt(example.prompt, example.tools)
        else:
            prompt_ids = self._prompt_ids(said.prompt)
        limit = self.max_prompt_length
        if limit is not None and len(prompt_ids) > limit:
            raise Unusable("prompt-too-long", f"{len(prompt_ids)} tokens, limit {limit}")
        bos = self.tokenizer.bos_token_id
        if bos is not None and prompt_ids[:2] == [bos, bos]:
            raise Unusable("double-bos", "the template and the tokenizer both begin the text")
        branches = tuple(
            self._branch(said.spans(k) if said and c.messages else None, c, prompt_ids)
            for k, c in enumerate(example.completions)
        )
        for branch in branches:
            if len(branch.ids) > self.max_length:
                raise Unusable("too-long", f"{len(branch.ids)} tokens, limit {self.max_length}")
        if len({tuple(b.ids) for b in branches}) < len(branches):
            raise Unusable("equal-answers", "two answers are the same tokens")
        label = example.completions[0].label if example.shape == "labelled" else None
        return Rendered(example.id, len(prompt_ids), branches, example.conversation, label)

    def asked(self, example: Example) -> Rendered:
        """The prompt alone, to be answered; raises `Unusable` where it leaves no room to."""
        self._refuse_special(replace(example, completions=()))
        ids = self.prompt(example.prompt, example.tools)
        most = min(self.max_prompt_length or self.max_length, self.max_length - 1)
        if len(ids) > most:
            raise Unusable("prompt-too-long", f"{len(ids)} tokens, limit {most}")
        branch = Branch(ids, [False] * len(ids))
        return Rendered(example.id, len(ids), (branch,), example.conversation)

    def text(self, ids: Sequence[int]) -> str:
        """What a sampled answer says, without its end and control tokens."""
        kept = list(ids)
        while kept and kept[-1] in self.end_ids:
            kept.pop()
        text: str = self.tokenizer.decode(
            kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def stretches(self, example: Example) -> list[Rendered]:
        """A document as stretches of at most `max_length` tokens, all of them trained on.

        Every token but the first has one before it to be predicted from: a stretch begins with
        the last token of the one before. A document begins with the beginning-of-text token,
        if the tokenizer puts one there, and ends with the end-of-text token. Raises `Unusable`
        for one without words.
        """
        self._refuse_special(example)
        ids = [*self.begin, *self._encode(example.completions[0].text), self.end_id]
        if len(ids) < 2 + len(self.begin):
            raise Unusable("empty-answer", "the text has no tokens")
        step = self.max_length - 1
        cuts = [ids[at : at + self.max_length] for at in range(0, len(ids) - 1, step)]
        return [
            Rendered(example.id, 1, (Branch(cut, [False] + [True] * (len(cut) - 1)),))
            for cut in cuts
        ]

    def render_as(self, example: Example, shape: str) -> list[Rendered]:
        """What a method of that shape sees of the example: one item, or a text's stretches."""
        if shape == "text":
            return self.stretches(example)
        if shape == "prompt":
            return [self.asked(example)]
        return [self.render(example.oriented(shape))]

    def check(self, example: Example, shape: str | None = None) -> tuple[str, str] | None:
        """(reason, detail) where the example cannot be rendered, else None."""
        try:
            if shape is None:
                self.render(example)
            else:
                self.render_as(example, shape)
        except Unusable as error:
            return error.reason, error.detail
        return None

    def _branch(
        self, spans: list[tuple[str, bool]] | None, completion: Completion, prompt_ids: list[int]
    ) -> Branch:
        ids, mask = list(prompt_ids), [False] * len(prompt_ids)
        if not completion.messages:
            if not self.prompts or len(ids) < 2:
                raise Unusable("empty-answer", "there is a prompt and no answer")
            mask[-1] = True
            return Branch(ids, mask)
        for text, trained in self._raw_spans(completion) if spans is None else spans:
            piece = self._encode_after(text)
            if trained:
                piece = self._one_turn(piece)
            ids.extend(piece)
            mask.extend([trained] * len(piece))
        if not any(mask):
            raise Unusable("empty-answer", "the completion has no token to train on")
        return Branch(ids, mask)

    def _one_turn(self, piece: list[int]) -> list[int]:
        """The answer's ids, ending in exactly one end-of-turn token."""
        ends = [i for i, token in enumerate(piece) if token in self.end_ids]
        if len(ends) > 1 or (ends and not self.chat):
            raise Unusable("special-token", "the answer's text contains the end-of-turn token")
        turn = piece[: ends[0] + 1] if ends else [*piece, self.end_id]
        if len(turn) < 2:
            raise Unusable("empty-answer", "the answer has no tokens before its end")
        return turn

    def _raw_spans(self, completion: Completion) -> list[tuple[str, bool]]:
        if len(completion.messages) != 1:
            raise Unusable("no-template", "several turns need a model with a chat template")
        return [(completion.messages[0].content, True)]

    def _refuse_special(self, example: Example) -> None:
        """What a user typed must not become a control token."""
        turns = [*example.prompt, *(m for c in example.completions for m in c.messages)]
        for token in self.special:
            if any(token in turn.content for turn in turns):
                raise Unusable("special-token", f"a message contains the control token {token}")

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode_after(self, text: str) -> list[int]:
        """Ids of a piece that follows other text (see `_border`)."""
        if not self.border:
            return self._encode(text)
        return self._encode(self.border + text)[len(self._encode(self.border)) :]


_BORDER = "\n"


def _border(tokenizer: Any) -> str:
    """What to put before a piece that stands inside a text, so that it is encoded as there.

    SentencePiece tokenizers put a space before the first word of whatever they encode. Where
    a word after a line break is encoded in another way than at the beginning, the line break
    goes along and its ids are taken off again.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    head, whole = ids(_BORDER), ids(_BORDER + "word")
    plain = whole[: len(head)] == head and whole[len(head) :] == ids("word")
    return "" if plain or whole[: len(head)] != head else _BORDER


def _special_tokens(tokenizer: Any) -> set[str]:
    """Texts that the tokenizer turns into control tokens."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    return added | set(tokenizer.all_special_tokens)
