"""Server-sent events out of the body of a stream (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from palate.records import RecordError

_LINE = re.compile(r"\r\n|\n|\r")
DONE = "[DONE]"


def events(body: str) -> Iterator[str]:
    """The data of each event; comments and other fields are passed over.

    What follows the last blank line is no event: the stream was cut there.
    """
    data: list[str] = []
    for line in _LINE.split(body.removeprefix("\ufeff"))[:-1]:
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line == "data":
            data.append("")


def objects(body: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of the events up to `[DONE]`.

    Raises `RecordError` under ``broken-stream`` for an event that is none.
    """
    for data in events(body):
        if data.strip() == DONE:
            return
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RecordError("broken-stream", f"an event is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise RecordError("broken-stream", "an event is not a JSON object")
        yield value
