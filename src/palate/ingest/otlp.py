"""OpenTelemetry's wire format in JSON, as the collector's file exporter writes it.

One line holds a batch of spans or of log records, with typed values: it becomes one row for each,
in the plain form that the formats of spans read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BATCHES = {"resourceSpans": ("scopeSpans", "spans"), "resourceLogs": ("scopeLogs", "logRecords")}
_NAMES = {
    "traceId": "trace_id",
    "spanId": "span_id",
    "parentSpanId": "parent_id",
    "name": "name",
    "eventName": "name",
    "status": "status",
}
_TIMES = {"startTimeUnixNano": "start_time", "endTimeUnixNano": "end_time", "timeUnixNano": "time"}


def is_batch(row: dict[str, Any]) -> bool:
    """Whether a row is a batch of spans or log records."""
    return isinstance(row.get("resourceSpans"), list) or isinstance(row.get("resourceLogs"), list)


def rows_of(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The spans and the log records of a batch."""
    for outer, (middle, inner) in _BATCHES.items():
        for resource in _objects(row.get(outer)):
            for scope in _objects(resource.get(middle)):
                yield from map(_plain, _objects(scope.get(inner)))


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    out = {plain: record[name] for name, plain in _NAMES.items() if record.get(name)}
    out |= {plain: _number(record[name]) for name, plain in _TIMES.items() if record.get(name)}
    out["attributes"] = _attributes(record.get("attributes"))
    out["events"] = [_plain(event) for event in _objects(record.get("events"))]
    return out


def _attributes(raw: object) -> dict[str, Any]:
    pairs = ((pair.get("key"), pair.get("value")) for pair in _objects(raw))
    return {key: _value(value) for key, value in pairs if isinstance(key, str)}


def _value(raw: object) -> Any:
    """A typed value as a plain one."""
    if not isinstance(raw, dict) or not raw:
        return None
    kind, value = next(iter(raw.items()))
    if kind == "arrayValue":
        return [_value(item) for item in _objects(_values(value))]
    if kind == "kvlistValue":
        return _attributes(_values(value))
    return _number(value) if kind == "intValue" else value


def _values(raw: object) -> object:
    return raw.get("values") if isinstance(raw, dict) else None


def _number(value: object) -> object:
    """A whole number, which OTLP writes as text."""
    if isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal():
        return int(value)
    return value


def _objects(raw: object) -> list[dict[str, Any]]:
    return [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
