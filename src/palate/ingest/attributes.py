"""Attributes of spans: by dotted names, whether they are flattened, nested, or partly both."""

from __future__ import annotations

from typing import Any

from palate.ingest.messages import decoded
from palate.ingest.origin import named
from palate.records import RecordError

_PREFIX = "attributes."


def attributes_of(row: dict[str, Any]) -> dict[str, Any]:
    """A span's attributes: its `attributes`, the columns that begin so, or the row itself."""
    inner = decoded(row.get("attributes"))
    if isinstance(inner, dict):
        return inner
    columns = {k.removeprefix(_PREFIX): v for k, v in row.items() if k.startswith(_PREFIX)}
    return columns or row


def lookup(scope: dict[str, Any], path: str) -> Any:
    """The value under a dotted name, ``a.b.c`` being ``a.b`` → ``c`` as well; None if absent."""
    if path in scope:
        return scope[path]
    at = path.find(".")
    while at >= 0:
        inner = scope.get(path[:at])
        if isinstance(inner, dict) and (found := lookup(inner, path[at + 1 :])) is not None:
            return found
        at = path.find(".", at + 1)
    return None


def collection(scope: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """The objects of a list: as it stands, or flattened into ``path.0.…``, ``path.1.…``."""
    listed = decoded(lookup(scope, path))
    if isinstance(listed, list):
        return [item for item in map(decoded, listed) if isinstance(item, dict)]
    found: dict[int, dict[str, Any]] = {}
    pairs = listed.items() if isinstance(listed, dict) else _under(scope, path)
    for key, value in pairs:
        index, _, rest = str(key).partition(".")
        if not index.isascii() or not index.isdigit() or len(index) > 6:
            continue
        item = found.setdefault(int(index), {})
        if rest:
            item[rest] = value
        elif isinstance(value, dict):
            item |= value
    return [found[index] for index in sorted(found)]


def span_id(row: dict[str, Any]) -> tuple[str, ...]:
    """The span's id as the id of its interaction."""
    for name in ("context.span_id", "span_id", "spanId"):
        value = lookup(row, name)
        if isinstance(value, str):
            return named("otel:span/", value.removeprefix("0x"))
    return ()


def trace_id(row: dict[str, Any]) -> str | None:
    """The id of the trace, in hex."""
    for name in ("context.trace_id", "trace_id", "traceId"):
        value = lookup(row, name)
        if isinstance(value, str) and value:
            return value.removeprefix("0x")
    return None


def refuse_failed(row: dict[str, Any]) -> None:
    """Raise ``provider-error`` for a span that ended in an error."""
    for name in ("status_code", "status.code", "status.status_code"):
        status = lookup(row, name)
        if status == 2 or (isinstance(status, str) and status.endswith("ERROR")):
            said = lookup(row, "status_message") or lookup(row, "status.message")
            raise RecordError("provider-error", f"the span ended in an error: {said!r:.80}")


def _under(scope: dict[str, Any], path: str) -> list[tuple[str, Any]]:
    """What is flattened under a name, without it."""
    start = f"{path}."
    return [(key[len(start) :], value) for key, value in scope.items() if key.startswith(start)]
