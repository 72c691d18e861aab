"""A fast tokenizer as GGUF keeps it: tokens, types, merges or scores, and how text is cut.

llama.cpp has no program for a tokenizer's own regular expression; it knows some by name
(`tokenizer.ggml.pre`). Which one a tokenizer has is read from what it does, not from whose it
is; whether the two agree is then seen on held-out prompts (`palate.ship.parity.check_tokens`).
"""

from __future__ import annotations

import json
import re
from typing import Any

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")

# Expressions of tokenizers' `Split` and llama.cpp's name of each (llama-vocab.cpp).
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
    r"%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = _CASED % ("", "", r"\p{N}")
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = _CASED % (_ENDINGS, _ENDINGS, r"\p{N}{1,3}")
_BY_EXPRESSION = {
    _LLAMA3: "llama-bpe",
    _QWEN2: "qwen2",
    _TEKKEN: "tekken",
    _O200K: "gpt-4o",
}


def check_tokenizer(tokenizer: Any) -> None:
    """Raise `ValueError` for a tokenizer that cannot be written, before any work."""
    description = _description(tokenizer)
    if not _sentencepiece(description):
        _pre(description)


def write_vocabulary(writer: Any, tokenizer: Any, size: int, end_ids: tuple[int, ...]) -> None:
    """Write the tokenizer's part of a GGUF file, with `size` tokens, unused ones included."""
    from gguf import TokenType

    description = _description(tokenizer)
    sentencepiece = _sentencepiece(description)
    added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
    names = {index: name for name, index in tokenizer.get_vocab().items()}
    unknown = tokenizer.unk_token_id if sentencepiece else None
    tokens: list[str] = []
    types: list[int] = []
    for index in range(size):
        name = names.get(index)
        kind = TokenType.NORMAL
        if name is None:
            kind = TokenType.UNUSED
        elif index == unknown:
            kind = TokenType.UNKNOWN
        elif index in added:
            kind = TokenType.CONTROL if added[index].special else TokenType.USER_DEFINED
        elif sentencepiece and _BYTE.fullmatch(name):
            kind = TokenType.BYTE
        tokens.append(f"[PAD{index}]" if name is None else str(name))
        types.append(int(kind))
    merges = _merges(description)
    if sentencepiece:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        # Whether a text begins as if a space stood before it.
        begins = tokenizer.tokenize("a", add_special_tokens=False)
        writer.add_add_space_prefix(begins[:1] == ["\N{LOWER ONE EIGHTH BLOCK}a"])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre(description))
        if merges:
            writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    _special(writer, tokenizer, end_ids)


def _special(writer: Any, tokenizer: Any, end_ids: tuple[int, ...]) -> None:
    for index, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if index is not None:
            add(index)
    if end_ids and end_ids[0] != tokenizer.eos_token_id:
        writer.add_eot_token_id(end_ids[0])
    empty = tokenizer("")["input_ids"]
    bos = tokenizer.bos_token_id
    writer.add_add_bos_token(bos is not None and empty[:1] == [bos])
    writer.add_add_eos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _description(tokenizer: Any) -> dict[str, Any]:
    """tokenizer.json, as the fast tokenizer holds it now."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise ValueError("the tokenizer is not a fast one, of which GGUF could be written")
    found: dict[str, Any] = json.loads(inner.to_str())
    if found["model"]["type"] != "BPE":
        raise ValueError(
            f"a tokenizer of type {found['model']['type']} cannot be written as GGUF here, only BPE"
        )
    return found


def _sentencepiece(description: dict[str, Any]) -> bool:
    """BPE over characters, with bytes for what is not in the vocabulary."""
    return bool(description["model"].get("byte_fallback"))


def _merges(description: dict[str, Any]) -> list[tuple[str, str]]:
    """The pairs in order of rank; older files keep them joined by a space."""
    raw = description["model"]["merges"]
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in raw)
    return [(str(left), str(right)) for left, right in pairs]


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> list[float]:
    """Minus the rank of the first merge that makes a token: the best score is merged first."""
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        rank.setdefault(left + right, number)
    last = float(len(merges))
    return [-float(rank.get(token, last)) for token in tokens]


def _pre(description: dict[str, Any]) -> str:
    """llama.cpp's name for how the tokenizer cuts text before it merges; `ValueError` if none."""
    steps = _steps(description.get("pre_tokenizer"))
    levels = [step for step in steps if step["type"] == "ByteLevel"]
    if len(levels) == 1 and not levels[0].get("add_prefix_space"):
        rest = [step for step in steps if step is not levels[0]]
        if levels[0].get("use_regex", True):
            if not rest:
                return "gpt-2"
            if rest == [{"type": "Digits", "individual_digits": True}]:
                return "smollm"
        elif len(rest) == 1 and rest[0]["type"] == "Split":
            expression = rest[0]["pattern"].get("Regex")
            if rest[0].get("behavior") == "Isolated" and expression in _BY_EXPRESSION:
                return _BY_EXPRESSION[expression]
    raise ValueError(
        "the tokenizer cuts text in a way that is not known under a name of llama.cpp's "
        f"({', '.join(step['type'] for step in steps) or 'no pre-tokenizer'}): it would read other "
        "tokens there; export the model with --to merged"
    )


def _steps(pre: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre is None:
        return []
    return list(pre["pretokenizers"]) if pre["type"] == "Sequence" else [pre]
