"""Answers that somebody got just now, and what they said of them, kept together."""

from __future__ import annotations

import secrets
from dataclasses import replace

from palate.records import Arrival, Example, Provenance, Signal
from palate.store.adding import now
from palate.store.database import Store


def keep(
    store: Store, source: str, example: Example, signal: Signal, name: str | None = None
) -> str:
    """Keep the answers and the word on them in one transaction; on the disk when this returns.

    Returns the name under which the interaction is known. Who says more of the same answers
    gives it as `name`: the answers are not told again then, and of one person the last word of
    each kind counts. Equal answers under two names stay two interactions.
    """
    where = (Provenance(source, 0, time=now()),)
    arrivals: list[Arrival] = []
    if name is None:
        name = f"palate:{source.rpartition(' ')[2]}-{secrets.token_hex(12)}"
        arrivals.append(Arrival(replace(example, provenance=where), (name,)))
    arrivals.append(Arrival(replace(signal, about=(name,), provenance=where)))
    store.add(arrivals, source)
    return name
