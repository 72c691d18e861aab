"""From a model's reply to probabilities of the verdicts; anything that is not one is none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_AROUND = " \t\r\n\"'"  # what tokenizers glue to a letter
_THOUGHT = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of a reply, and the log-probs of what else could have stood there."""

    token: str
    top: tuple[tuple[str, float], ...]


class NoVerdict(ValueError):
    """A reply that is no verdict; the message says what it is instead."""


def read_choice(text: str, choices: Sequence[str], reply: str = "letter") -> str:
    """The one choice that a reply makes; raises `NoVerdict` for everything else.

    ``letter``: the choice and nothing but white space. ``json``: an object with the key `verdict`
    alone. A thought in <think> tags may stand before either.
    """
    said = _without_thought(text).strip()
    if reply == "json":
        said = _in_json(said)
    if said in choices:
        return said
    shown = " ".join(said.split())[:80]
    raise NoVerdict(f"no verdict but '{shown}'" if shown else "an empty reply")


def chances(
    text: str, choice: str, choices: Sequence[str], tokens: Sequence[TokenLogprob]
) -> dict[str, float] | None:
    """P of each choice where the verdict stands, of sum 1; None where the tokens do not tell.

    The verdict's token is the last that is the choice; the tokens must be the reply's text. What
    the server did not list has probability 0: less than the least that it did list.
    """
    if "".join(token.token for token in tokens) != text:
        return None
    at = next((t for t in reversed(tokens) if t.token.strip(_AROUND) == choice), None)
    if at is None:
        return None
    return normalised({**dict.fromkeys(choices, -math.inf), **_sums(at.top, choices)})


def normalised(logps: Mapping[str, float]) -> dict[str, float] | None:
    """Probabilities of sum 1 from log-probs; None if all are -inf or one is NaN."""
    highest = max(logps.values())
    if not math.isfinite(highest) or any(math.isnan(value) for value in logps.values()):
        return None
    weights = {name: math.exp(value - highest) for name, value in logps.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _sums(top: Sequence[tuple[str, float]], choices: Sequence[str]) -> dict[str, float]:
    """log of the summed probabilities of the tokens that say each choice: `A`, ` A`, `"A`."""
    sums: dict[str, float] = {}
    for token, logp in top:
        said = token.strip(_AROUND)
        if said in choices and not math.isnan(logp):
            sums[said] = sums.get(said, 0.0) + math.exp(min(0.0, logp))
    return {said: math.log(p) for said, p in sums.items() if p > 0}


def _without_thought(text: str) -> str:
    begin, end = _THOUGHT
    if not text.lstrip().startswith(begin):
        return text
    if text.count(end) != 1:
        raise NoVerdict("a thought without an end")
    return text.partition(end)[2]


def _in_json(text: str) -> str:
    try:
        read = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        shown = " ".join(text.split())[:80]
        raise NoVerdict(f"no JSON but '{shown}'") from error
    if not isinstance(read, dict) or list(read) != ["verdict"]:
        raise NoVerdict("JSON without the key verdict, or with more")
    return read["verdict"] if isinstance(read["verdict"], str) else ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two verdicts the later would win."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
