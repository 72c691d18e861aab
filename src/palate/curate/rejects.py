"""Examples that are left out become rejects that say where they came from."""

from __future__ import annotations

from collections.abc import Callable

from palate.records import Example, Reject

EXCERPT = 200

OnReject = Callable[[Reject], None]
Reason = tuple[str, str]


def reject(example: Example, reason: str, detail: str) -> Reject:
    """The reject of an example: its first row by place, further rows by name in the detail."""
    first = next(iter(example.provenance), None)
    also = ", ".join(f"{p.source}:{p.line}" for p in example.provenance[1:5])
    return Reject(
        source=first.source if first else "",
        line=first.line if first else 0,
        reason=reason,
        detail=f"{detail} (with {also})" if also else detail,
        excerpt=example.prompt[-1].content[:EXCERPT] if example.prompt else "",
        example_id=example.id,
    )
