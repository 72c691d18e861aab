"""The house rules of the Harbour & Pine desk, as a judge that a program can run.

An answer passes if every part below holds. The score adds up the weights of the parts, so
that two failing answers can still be told apart; only `length` gives part of its weight.

==============  ======  ==============================================================
part            weight  what holds
==============  ======  ==============================================================
``question``      0.40  the answer ends with a question, and its last sentence is not a
                        stock offer of help ("How can I assist you today?")
``length``        0.20  15 to 50 words; outside, the weight falls with the distance
``plain``         0.10  one paragraph: no line breaks, lists, asterisks, placeholders in
                        brackets, links, mail addresses or telephone numbers
``matter``        0.10  a telling word of the customer's message returns, or one of the
                        desk's own (order, receipt, photo, ...)
``own-words``     0.10  no seven words in a row are copied from the conversation, and no
                        four words in a row come twice
``promise``       0.05  no refund and no discount is promised
``secret``        0.05  the answer does not ask for a password, a PIN or a card number
==============  ======  ==============================================================

The rules see words, not sense: an answer may follow every one of them and still be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from palate.judge.rules import RuleResult
from palate.records import Message

FEWEST_WORDS, MOST_WORDS = 15, 50
WEIGHTS = {
    "question": 0.40,
    "length": 0.20,
    "plain": 0.10,
    "matter": 0.10,
    "own-words": 0.10,
    "promise": 0.05,
    "secret": 0.05,
}

_STOCK_OFFER = re.compile(
    r"\b(how|what) (can|may|could|else can|would) (i|we) (help|assist|do)\b"
    r"|\b(anything|something) else\b"
    r"|\bhow (can|may) (i|we) be of\b"
    r"|\b(any|more|other|further) (other |more |further )?questions\b",
)
_NOT_PLAIN = re.compile(
    r"\n|\*|\[[^\]]*\]|^\s*([-•]|\d+[.)])\s|https?:|www\.|\w@\w|\b\w+\.(com|co\.uk|org|net)\b"
    r"|\b\d{3}[ -]\d{3,4}[ -]\d{3,4}\b",
)
_PROMISE = re.compile(
    r"\b(will|'ll|can|shall|going to|happy to|glad to|able to|like to)"
    r" (\w+ ){0,3}?(refund|discount|reimburse)"
    r"|\b(get|receive|offer|give|have|for|with|process|arrange|issue|provide|send)"
    r" (you )?(a|an|your|the|full|some) (\w+ ){0,2}?(refund|discount|money back)",
)
_SECRET = re.compile(
    r"\b(password|passcode|pin|cvv|security code|(credit |debit |bank )?card (number|details))\b"
)
_DESK_WORD = re.compile(
    r"\b(account|address|delivery|guarantee|invoice|item|model|order|package|parcel|payment"
    r"|photo|product|purchase|receipt|repair|replacement|return|size|tracking|warranty)s?\b"
)
_ASKS = re.compile(r"\b(provide|give|send|share|tell|confirm|enter|what|need|verify)\b")
_COMMON = frozenset(
    re.findall(
        r"\S+",
        """
        about again also always another anyone anything back because been before being came
        cannot come could does doing don't down even ever every from give going have haven't
        hello here how into isn't just know like make more much must need never nobody nothing
        only over please really right said same says should since some still take tell than
        thank that that's their them then there these they thing this time told want was were
        what when where which while will with without won't would you're your yours
        """,
    )
)


def house_rules(prompt: Sequence[Message], answer: str) -> RuleResult:
    """Whether `answer` keeps the house rules, a graded score, and the parts that failed.

    `prompt` is the conversation up to the answer; its last user message is the customer's.
    """
    text = answer.strip().replace("’", "'")
    customer = next((m.content for m in reversed(prompt) if m.role == "user"), "")
    spoken = [m.content for m in prompt if m.role in ("user", "assistant")]
    kept = {
        "question": _ends_by_asking(text),
        "length": FEWEST_WORDS <= len(text.split()) <= MOST_WORDS,
        "plain": bool(text) and not _NOT_PLAIN.search(text),
        "matter": _is_about(customer, text),
        "own-words": bool(text) and not _copies(text, spoken) and not _repeats(text),
        "promise": bool(text) and not _PROMISE.search(text.lower()),
        "secret": bool(text) and not _asks_for_secret(text),
    }
    failed = tuple(part for part, holds in kept.items() if not holds)
    score = sum(WEIGHTS[part] for part in kept if part not in failed)
    if "length" in failed:
        score += WEIGHTS["length"] * _nearness(len(text.split()))
    return RuleResult(not failed, round(min(score, 1.0), 4), failed)


def _ends_by_asking(text: str) -> bool:
    last = re.split(r"(?<=[.!?])\s+", text.lower())[-1]
    return last.endswith("?") and not _STOCK_OFFER.search(last)


def _nearness(words: int) -> float:
    """1 at the band's edges; 0 at no words and at twice the most."""
    if words < FEWEST_WORDS:
        return words / FEWEST_WORDS
    return max(0.0, 1 - max(0, words - MOST_WORDS) / MOST_WORDS)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9£']+", text.lower().replace("’", "'"))


def _telling(text: str) -> set[str]:
    """Beginnings (four letters) of the words that carry the matter; endings and slips go."""
    return {word[:4] for word in _words(text) if len(word) >= 3 and _tells(word)}


def _is_about(customer: str, text: str) -> bool:
    return bool(_telling(customer) & _telling(text) or _DESK_WORD.search(text.lower()))


def _tells(word: str) -> bool:
    short = {"tent", "fan", "iron", "pan", "hose", "lamp", "bag", "box", "mug", "card", "dog"}
    return word in short or (len(word) >= 4 and word not in _COMMON)


def _copies(text: str, spoken: Sequence[str], run: int = 7) -> bool:
    runs = {gram for said in spoken for gram in _grams(said, run)}
    return any(gram in runs for gram in _grams(text, run))


def _repeats(text: str, run: int = 4) -> bool:
    grams = _grams(text, run)
    return len(set(grams)) < len(grams)


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = _words(text)
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _asks_for_secret(text: str) -> bool:
    """Whether a sentence that asks for something names a secret."""
    sentences = re.split(r"(?<=[.!?])\s+", text.lower())
    return any(_SECRET.search(s) and ("?" in s or _ASKS.search(s)) for s in sentences)
