"""What a provider says instead of an answer: errors that were logged as one, and refusals.

Both lists are conservative: an answer that speaks about errors, or says what cannot be done on
the way to what can, is an answer. Only how a text begins counts, and an error is short.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence

from palate.curate.rejects import OnReject, reject
from palate.curate.said import compared, learned
from palate.records import Example

LONGEST_ERROR = 600
"""Characters; a longer text that begins like an error explains one."""
REFUSED_WITHIN = 250
"""Characters in which a refusal says what it is."""
_QUOTED = 80  # characters of an error

_STATUS = (
    "bad request|unauthorized|forbidden|not found|request timeout|payload too large|"
    "too many requests|internal server error|bad gateway|service (?:temporarily )?unavailable|"
    "gateway time-?out|overloaded"
)
_END = rf"(?=\W*$|[:,({{\[]| [-–—({{\[]| (?:{_STATUS}))"
_CLIENTS = "openai|anthropic|httpx|httpcore|requests|aiohttp|botocore"
_ERROR = re.compile(
    "|".join(
        (
            rf"(?:api |openai |http |server )?error(?: code)?:? ?[45]\d\d{_END}",
            rf"http(?:/[\d.]+)? [45]\d\d{_END}",
            rf"\[?[45]\d\d\]?:? (?:{_STATUS})\b",
            rf"(?:error: ?)?(?:{_STATUS})[.!]?$",
            r"(?:error: ?)?(?:the )?(?:request|read|connection|operation) (?:has )?timed out[.!]?$",
            r"(?:error: ?)?connection (?:error|refused|reset|aborted)\b.{0,80}$",
            r"(?:error: ?)?rate limit (?:reached|exceeded)\b",
            r"you (?:have )?exceeded your current quota\b",
            r"the server had an error (?:while )?processing your request\b",
            r"(?:the|that) (?:server|model) (?:is )?(?:currently )?overloaded\b",
            r"(?:error: ?)?this model's maximum context length is \d+ tokens\b",
            r"(?:error: ?)?(?:incorrect|invalid) api key\b",
            r"upstream connect error or disconnect/reset before headers\b",
            r"upstream request timeout$",
            rf"(?:{_CLIENTS})[.\w]*\.\w*(?:error|exception|timeout)\b",
            r"<(?:!doctype )?html\b.*<title>[^<]*\b[45]\d\d\b",
            r"data: \{\"(?:id|choices|type|error)\"",
            r"\[object object\]$",
        )
    ),
    re.IGNORECASE,
)

_NOT = r"(?:can(?:['’]t|not| not)|won['’]t|will not|am unable to|['’]m unable to|"
_NOT += r"(?:am|['’]m) not (?:able|allowed|permitted) to|must (?:respectfully )?decline(?: to)?)"
_DO = (
    "(?:help|assist|provide|offer|give|share|answer|respond|comply|fulfil|fulfill|complete|"
    "continue|engage|participate|discuss|support|recommend|create|generate|write|produce|"
    "translate|do (?:that|this|so)|process)"
)
# What may come before it; tried one after another, because a repeated choice of these would take
# exponential time over a text that almost refuses.
_OPENING = re.compile(
    r"(?:i(?:['’]m| am) (?:\w+ )?sorry|sorry|i apologi[sz]e|(?:my )?apologies|unfortunately|"
    r"however|but|and|(?:i understand|thank you)[^.!\n]{0,100}?(?=,? (?:but|however)\b|[.!])|"
    r"as an? [^.,\n]{0,40}\b(?:ai|assistant|language model)\b[^.,\n]{0,40}|"
    r"i(?:['’]m| am) (?:just |only )?an? [^.,\n]{0,40}\b(?:ai|language model)\b[^.,\n]{0,40})"
    r"[\s,.;:!–—-]+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    "|".join(
        (
            rf"i ?(?:really |simply )?{_NOT},? (?:\w+ly )?{_DO}\b(?! but\b)",
            r"i ?must (?:respectfully )?decline\b",
            r"i (?:do not|don['’]t) feel comfortable \w+ing\b",
            r"(?:es )?tut mir leid[^.\n]{0,40}\bich kann\b[^.\n]{0,80}\bnicht\b",
            r"(?:je suis )?désolée?[^.\n]{0,40}\bje ne peux pas\b",
            r"lo siento[^.\n]{0,40}\bno puedo\b",
        )
    ),
    re.IGNORECASE,
)


def is_provider_error(text: str) -> bool:
    """Whether an answer is the message of a failed request, a page about one, or raw stream."""
    said = " ".join(text.split())
    if not said or len(said) > LONGEST_ERROR:
        return False
    return _ERROR.match(said) is not None or _is_error_object(said)


def _is_error_object(said: str) -> bool:
    """`{"error": {"message": …}}` and `{"type": "error", …}`, as APIs answer."""
    if not said.startswith("{"):
        return False
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return False
    error = value.get("error")
    return value.get("type") == "error" or (isinstance(error, dict) and "message" in error)


def is_refusal(text: str) -> bool:
    """Whether an answer begins by refusing, in English, German, French or Spanish."""
    said, at = text.strip()[:REFUSED_WITHIN], 0
    while _REFUSAL.match(said, at) is None:
        opening = _OPENING.match(said, at)
        if opening is None:
            return False
        at = opening.end()
    return True


def drop_provider_errors(examples: Sequence[Example], on_reject: OnReject) -> list[Example]:
    """The examples of which no answer is an error; the others are ``provider-error``."""
    out: list[Example] = []
    for example in examples:
        wrong = [c.text for c in compared(example) if is_provider_error(c.text)]
        if wrong:
            # Never half a word: what is left of a key or an address could not be redacted.
            said = textwrap.shorten(wrong[0], _QUOTED, placeholder=" …")
            on_reject(reject(example, "provider-error", f"an answer is the error '{said}'"))
        else:
            out.append(example)
    return out


def drop_refusals(examples: Sequence[Example], on_reject: OnReject) -> list[Example]:
    """The examples that teach no refusal: ``refusal`` where the answer to be learned is one.

    A rejected refusal stays: that somebody preferred an answer over it is worth learning.
    """
    out: list[Example] = []
    for example in examples:
        if any(is_refusal(completion.text) for completion in learned(example)):
            on_reject(reject(example, "refusal", "the answer to be learned refuses"))
        else:
            out.append(example)
    return out
