"""One interaction in the exports of several loggers: the provider's id makes them one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.ingest.fixture_rows import rows

from palate.ingest import FORMATS
from palate.records import Example

SAME = "chatcmpl-5ame0ne"


def _renamed(name: str, line: int, old: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(json.dumps(rows(name)[line]).replace(old, SAME))
    return row


@pytest.mark.parametrize(
    ("name", "line", "old"),
    [
        ("openai-chat", 0, "chatcmpl-9aXk2LmQ"),
        ("langsmith", 0, "chatcmpl-Ls55rTgB"),
        ("langsmith", 2, "chatcmpl-Wr99aaBB"),
        ("helicone", 0, "chatcmpl-He11coNe"),
        ("litellm", 0, "chatcmpl-L1teL1m1"),
        ("openinference", 0, "chatcmpl-0penInf1"),
        ("opentelemetry", 0, "chatcmpl-0te1Gen1"),
    ],
)
def test_the_providers_id_comes_first_in_every_logger(name: str, line: int, old: str) -> None:
    assert FORMATS[name].ids(_renamed(name, line, old))[0] == f"openai:{SAME}"


def test_langfuse_tells_it_where_the_output_is_the_response() -> None:
    row = copy.deepcopy(rows("langfuse")[0])
    message = row["output"]
    row["output"] = {"id": SAME, "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    assert FORMATS["langfuse"].ids(row)[0] == f"openai:{SAME}"
    (example,) = FORMATS["langfuse"].parse(row)
    assert isinstance(example, Example)
    assert example.completions[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_with_ids_is_one_interaction_at_most(name: str) -> None:
    """The store takes rows that share an id for one: of two examples the second would be lost."""
    known = FORMATS[name]
    for row in rows(name):
        if not known.sniff(row) or not known.ids(row):
            continue
        try:
            records = known.parse(row)
        except ValueError:
            continue
        assert sum(isinstance(record, Example) for record in records) <= 1
